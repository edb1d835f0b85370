"""Registry: what exists is found, what does not is named."""
import json
import subprocess
import sys

import pytest

import python_models
from python_models import build_model, list_models, list_presets, list_recipes, registry
from python_models.training.config import read_recipe


def test_lists():
    assert "sgem_unet" in list_models()
    assert list_presets("sgem_unet") == ["paper", "small", "tiny"]
    assert {"paper", "tiny"} <= set(list_recipes("sgem_unet"))


@pytest.mark.parametrize("name", list_models())
def test_options_rebuild_the_network(name):
    for preset in list_presets(name):
        net = build_model(name, preset, backend="reference")
        again = build_model(net.name, net.preset, "reference", **json.loads(json.dumps(net.options)))
        assert (again.name, again.preset, again.options) == (name, preset, net.options)
        assert [(k, v.shape) for k, v in again.state_dict().items()] == [(k, v.shape) for k, v in net.state_dict().items()]


def test_default_preset():
    assert build_model("sgem_unet", backend="reference").preset == "paper"


def test_option_overrides_preset():
    net = build_model("sgem_unet", "tiny", "reference", in_channels=3, attention="linear")
    assert (net.in_channels, net.options["attention"], net.options["widths"]) == (3, "linear", [8, 16, 32, 56, 64])


@pytest.mark.parametrize("args, options, message", [
    (("unet",), {}, r"^build_model: no network 'unet'; there are .*sgem_unet"),
    (("../sgem_unet",), {}, r"^build_model: no network '../sgem_unet'; there are "),
    (("sgem_unet", "huge"), {}, r"^build_model: sgem_unet has no preset 'huge'; its presets are paper, small, tiny$"),
    (("sgem_unet",), {"depth": 4}, r"^build_model: sgem_unet has no option 'depth'; its options are attention, input_size, widths"),
    (("sgem_unet",), {"value_proj": "False"}, r"^build_model: option value_proj of sgem_unet must be true or false, got 'False'$"),
    (("irmamba",), {"lrm": 0}, r"^build_model: option lrm of irmamba must be true or false, got 0$"),
    (("irmamba", ["tiny"]), {}, r"^build_model: irmamba has no preset \['tiny'\]"),
    (("sgem_unet", "tiny", "cuda"), {}, r"reference.*got 'cuda'"),
])
def test_unknown_names(args, options, message):
    with pytest.raises(ValueError, match=message) as error:
        build_model(*args, **options)
    assert "\n" not in str(error.value)


def test_a_folder_is_a_network(tmp_path, monkeypatch):
    (tmp_path / "one_conv").mkdir()
    (tmp_path / "one_conv" / "model.py").write_text("""
from torch import nn
from python_models.layers import IRSTDNet
from python_models.losses import SoftIoULoss

class OneConv(IRSTDNet):
    name, presets, default_preset = "one_conv", {"paper": {"kernel": 3}}, "paper"

    def __init__(self, kernel: int = 1, backend: str = "ext"):
        super().__init__({"kernel": kernel}, in_channels=1)
        self.conv = nn.Conv2d(1, 1, kernel, padding=kernel // 2)

    def forward_maps(self, x):
        return {"logits": self.conv(x)}

    def criterion(self):
        return SoftIoULoss()
""")
    monkeypatch.setattr(registry, "_ROOT", tmp_path)
    monkeypatch.setattr(python_models, "__path__", [*python_models.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "python_models.one_conv", raising=False)
    assert list_models() == ["one_conv"]
    net = build_model("one_conv", kernel=5)
    assert (net.name, net.preset, net.options) == ("one_conv", "paper", {"kernel": 5})


def test_import_is_light():
    heavy = "pytorch_lightning torchmetrics matplotlib scipy pytorch_optimizer tensorboard".split()
    code = f"import sys, python_models; python_models.build_model('sgem_unet', 'tiny', 'reference'); print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name, recipe", [(n, r) for n in list_models() for r in list_recipes(n)])
def test_recipes_build(name, recipe):
    read = read_recipe(list_recipes(name)[recipe])
    net = build_model(name, read.values.get("preset"), "reference", **read.options)
    assert {key: net.options[key] for key in read.options} == read.options
