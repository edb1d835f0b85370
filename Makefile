# make demo   the main job: trains, judges and pictures a small network on synthetic data
# make test   the whole test suite
# Both make a virtual environment of their own in .venv unless one is active. TORCH_INDEX=URL picks the index torch comes from.
PYTHON ?= python3
VENV   ?= $(or $(VIRTUAL_ENV),.venv)
TORCH_INDEX ?=
EXTRAS ?= train,viz
PY      = $(VENV)/bin/python
CONSTRAINED = -c constraints.txt

.PHONY: torch install demo test bench

$(PY):
	$(PYTHON) -m venv $(VENV)

torch: $(PY) ## pinned, only where there is none
	@$(PY) -c "import importlib.metadata as m; m.version('torch')" 2>/dev/null || { \
	  echo "installing $$(cat constraints.txt) from $(or $(TORCH_INDEX),the default index; on a machine without a GPU set TORCH_INDEX to PyTorch's CPU index to save gigabytes)"; \
	  $(PY) -m pip install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(CONSTRAINED) torch; }

install: torch ## this package, on top of it
	$(PY) -m pip install -q -e ".[$(EXTRAS)]"

demo: install ## the main job; writes runs/demo, then runs/demo-2 and so on
	$(VENV)/bin/irstd demo

test: EXTRAS = train,viz,test
test: install
	@# the Triton that pairs with torch 2.12 and 2.13; a CUDA torch brings its own, and without one these tests skip
	@$(PY) -c "import triton" 2>/dev/null || $(PY) -m pip install -q --no-deps triton==3.7.1 || true
	cd tests && $(abspath $(PY)) -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: EXTRAS = test
bench: install
	cd benchmarks && $(abspath $(PY)) run.py -k "not Targets and not PixelDifference and not Wavelet" && $(abspath $(PY)) run.py pixel_difference -k PixelDifference && $(abspath $(PY)) run.py wavelet_diffusion -k "Wavelet and not (backward and 1thread)" && $(abspath $(PY)) bench_cold.py \
	  && $(abspath $(PY)) run.py targets -k Targets && $(abspath $(PY)) bench_models.py && $(abspath $(PY)) bench_backends.py irmamba paper && $(abspath $(PY)) tables.py
