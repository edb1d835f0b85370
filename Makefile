PYTHON ?= python3
VENV   ?= $(or $(VIRTUAL_ENV),.venv)
PY      = $(VENV)/bin/python
$(PY):
	$(PYTHON) -m venv $(VENV)
install: $(PY)   ## torch first (pinned, only where there is none), then this package
	$(PY) -c "import importlib.metadata as m; m.version('torch')" 2>/dev/null || $(PY) -m pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(PY) -m pip install ".[$(EXTRAS)]"
demo: EXTRAS = train,viz
demo: install    ## the main job
	$(PY) -m python_models.cli demo
test: EXTRAS = train,viz,test
test: install
	cd tests && $(abspath $(PY)) -m pytest -q
