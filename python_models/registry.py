"""Finds the networks: every folder of this package that holds a `model.py` is one, under the folder's name.

`model.py` defines one subclass of `IRSTDNet` whose `name` is the folder's name; its keyword arguments are the network's options, its
`presets` the sizes it ships, and the TOML files in `recipes/` its training configurations. Adding a network edits no list.
"""
from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

_ROOT = Path(__file__).resolve().parent


def list_models() -> list[str]:
    """Names `build_model` accepts, sorted.

    >>> from python_models import list_models
    >>> "sgem_unet" in list_models()
    True
    """
    return sorted(path.parent.name for path in _ROOT.glob("*/model.py"))


def list_presets(name: str) -> list[str]:
    """Presets of a network, its default first."""
    cls = _network_class(name)
    return sorted(cls.presets, key=lambda preset: preset != cls.default_preset)


def list_recipes(name: str) -> dict[str, Path]:
    """Training recipes a network ships: {"paper": Path(".../recipes/paper.toml"), ...}."""
    _check_name(name)
    return {path.stem: path for path in sorted((_ROOT / name / "recipes").glob("*.toml"))}


def build_model(name: str, preset: str | None = None, backend: str = "ext", **options: Any) -> IRSTDNet:
    """Build a network by name.

    preset: one of `list_presets(name)`, None for the network's default. backend: "ext" runs the compiled ops, "reference" plain PyTorch;
    same network, same state_dict. options override the preset's values. The result carries `name`, `preset` and `options`, and
    `build_model(net.name, net.preset, backend, **net.options)` builds it again. Raises ValueError for an unknown name, preset or option.

    >>> from python_models import build_model
    >>> net = build_model("sgem_unet", "tiny", backend="reference", attention="linear")
    >>> net.options["attention"]
    'linear'
    """
    cls = _network_class(name)
    chosen = cls.default_preset if preset is None else preset
    if not isinstance(chosen, str) or chosen not in cls.presets:
        raise ValueError(f"build_model: {name} has no preset {chosen!r}; its presets are {', '.join(list_presets(name))}")
    known = {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.name != "backend"}
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"build_model: {name} has no option {option!r}; its options are {', '.join(known)}")
        if isinstance(known[option], bool) and not isinstance(value, bool):  # the text "False" would count as true
            raise ValueError(f"build_model: option {option} of {name} must be true or false, got {value!r}")
    net = cls(backend=backend, **{**cls.presets[chosen], **options})
    net.preset = chosen
    return net


def _check_name(name: str) -> None:
    if name not in list_models():
        raise ValueError(f"build_model: no network {name!r}; there are {', '.join(list_models())}")


def _network_class(name: str) -> type[IRSTDNet]:
    _check_name(name)
    module = import_module(f"python_models.{name}.model")
    return next(c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__ and getattr(c, "name", None) == name)
