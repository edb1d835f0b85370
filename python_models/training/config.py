"""The typed training configuration: defaults, then a TOML recipe, then the command line."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from .optim import OptimizerName, ScheduleName

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class TrainConfig:
    """Train a network on the training list of a data set, select on its validation list, write a run folder.

    Examples:
      irstd train sgem_unet --data DATA/NUAA-SIRST --split idx_427 --preset tiny --out runs/a
      irstd train sgem_unet --data DATA/NUDT-SIRST --split 50_50 --recipe paper --out runs/paper
      irstd train sgem_unet --data DATA/NUAA-SIRST --split idx_427 --minutes 20 --out runs/quick
      irstd train sgem_unet --data DATA/NUAA-SIRST --split idx_427 --out runs/a --resume
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """network, one of those `irstd doctor` lists"""
    data: Path
    """folder of the data set"""
    split: str | None = None
    """name of the split, the folder of its lists (default: the only one there is)"""
    out: Path = Path("runs/run")
    """run folder to write"""
    preset: str | None = None
    """size and design of the network (default: the network's own)"""
    option: tuple[str, ...] = ()
    """constructor options of the network as NAME=VALUE, e.g. attention=linear"""
    recipe: str | None = None
    """named recipe of the network or a TOML file; options given here win over it"""
    backend: Literal["ext", "reference"] = "ext"
    """native operators, or their plain PyTorch form"""
    epochs: int = 80
    """passes over the training list"""
    minutes: float | None = None
    """wall-clock budget; the schedule is shortened to fit it (then runs are not reproducible to the bit)"""
    final: bool = False
    """train on training and validation list together; the last weights are the result"""
    batch_size: int = 8
    """images per step"""
    optimizer: OptimizerName = "adamw"
    """adamw, adam or sgd"""
    lr: float = 2e-3
    """learning rate after the warm-up"""
    weight_decay: float = 0.01
    """weight decay"""
    schedule: ScheduleName = "cosine"
    """learning rate after the warm-up: cosine, poly or constant"""
    poly_power: float = 0.9
    """exponent of the poly schedule"""
    warmup_epochs: float = 2.0
    """epochs of linear warm-up"""
    clip: float = 0.0
    """largest gradient norm; 0 is no clipping"""
    ema: float = 0.99
    """decay of the averaged weights that are judged and saved; 0 uses the weights as they are"""
    crop: int | None = None
    """side of the training crops in pixels (default: the network's own size, else 256)"""
    scale: tuple[float, float] = (0.75, 1.5)
    """range of the random scale before the crop"""
    positive: float = 0.5
    """share of crops that must hold a target where the image has one"""
    flip: bool = True
    """random flips"""
    vertical: bool = True
    """flip upside down too, not only left to right"""
    blur: float = 0.0
    """share of images that are blurred"""
    blur_sigma: tuple[float, float] = (0.3, 1.0)
    """range of the blur's deviation in pixels"""
    pad: Literal["reflect", "zeros"] = "reflect"
    """what surrounds an image that is smaller than its crop"""
    normalisation: str = "data"
    """mean and deviation of the training list, or a named preset such as ImageNet or NUDT-SIRST"""
    transpose: bool = True
    """random transposes"""
    masks: Literal["binarise", "strict"] = "binarise"
    """masks with grey values: binarise at half scale with a warning, or refuse"""
    val_every: int = 1
    """epochs between two judgements on the validation list"""
    seed: int = 0
    """seed of the weights, the order and the augmentation"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """arithmetic of training; bf16 and fp16 are mixed precision"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to train"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""
    workers: int = 0
    """processes that load images; results do not depend on it"""
    tensorboard: bool = False
    """also write TensorBoard logs into the run folder"""
    progress: bool = True
    """progress bar"""
    resume: bool = False
    """continue the run in the folder from its last finished epoch"""
    overwrite: bool = False
    """replace the run in the folder"""


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says: training values and constructor options of the network."""

    values: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


# What belongs to one call and not to a recipe.
_NOT_IN_RECIPE = {"model", "data", "out", "recipe", "resume", "overwrite", "progress", "option"}
# What a resumed run may change: nothing of it changes the result of an epoch.
FREE_ON_RESUME = {"out", "resume", "overwrite", "progress", "threads", "workers", "tensorboard", "data", "minutes"}


def read_recipe(path: Path) -> Recipe:
    """Read a TOML recipe: keys are field names of TrainConfig; a table ``[options]`` holds options of the network."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"recipe: {path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"recipe: {path} is not valid TOML ({error})") from None
    options = table.pop("options", {})
    if not isinstance(options, Mapping):
        raise ValueError(f"recipe: {path}: options must be a table, got {type(options).__name__}")
    known = {f.name: f for f in dataclasses.fields(TrainConfig) if f.name not in _NOT_IN_RECIPE}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"recipe: {path}: unknown key {key!r}, known are {', '.join(sorted(known))}")
        values[key] = tuple(value) if isinstance(value, list) else value
    return Recipe(values, dict(options))


def find_recipe(name: str, recipes: Mapping[str, Path]) -> Path:
    """The file of a recipe: a path ending in .toml, or the name of one that the network ships."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in recipes:
        raise ValueError(f"recipe: must be a .toml file or one of {', '.join(recipes) or 'none shipped'}, got {name!r}")
    return recipes[name]


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Turn ``("attention=linear", "width=16")`` into ``{"attention": "linear", "width": 16}``; values read as TOML, else as text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"train: option must be NAME=VALUE, got {pair!r}")
        try:
            options[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[name] = text
    return options


def check(config: TrainConfig) -> None:
    """Raise ValueError naming the first field out of its range."""
    rules: list[tuple[str, bool, str]] = [
        ("epochs", config.epochs >= 1, "be >= 1"),
        ("minutes", config.minutes is None or config.minutes > 0, "be > 0"),
        ("batch_size", config.batch_size >= 1, "be >= 1"),
        ("lr", config.lr > 0, "be > 0"),
        ("weight_decay", config.weight_decay >= 0, "be >= 0"),
        ("warmup_epochs", config.warmup_epochs >= 0, "be >= 0"),
        ("clip", config.clip >= 0, "be >= 0"),
        ("ema", 0 <= config.ema < 1, "lie in [0, 1)"),
        ("crop", config.crop is None or config.crop >= 16, "be >= 16"),
        ("scale", 0 < config.scale[0] <= config.scale[1], "be 0 < low <= high"),
        ("positive", 0 <= config.positive <= 1, "lie in [0, 1]"),
        ("blur", 0 <= config.blur <= 1, "lie in [0, 1]"),
        ("blur_sigma", 0 < config.blur_sigma[0] <= config.blur_sigma[1], "be 0 < low <= high"),
        ("val_every", config.val_every >= 1, "be >= 1"),
        ("threads", config.threads is None or config.threads >= 1, "be >= 1"),
        ("workers", config.workers >= 0, "be >= 0"),
    ]
    for name, holds, rule in rules:
        if not holds:
            raise ValueError(f"train: {name} must {rule}, got {getattr(config, name)}")
    if config.resume and config.overwrite:
        raise ValueError("train: resume and overwrite exclude each other, got both")


def as_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON values, paths as text and tuples as lists."""
    return {
        k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v
        for k, v in dataclasses.asdict(config).items()
    }
