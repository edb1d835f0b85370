"""The typed training configuration: defaults, then a TOML recipe, then the command line."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from .optim import OptimizerName
from .schedule import ScheduleName, WarmupName

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
      irstd train sgem_unet --data DATA/NUAA-SIRST --out runs/a --resume
      irstd train sgem_unet --data DATA/NUAA-SIRST --split idx_427 --out runs/abc --seeds 0 1 2
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
    weights: Path | None = None
    """safetensors file of the whole network to begin with, such as the best weights of a run or what irstd convert writes"""
    backend: Literal["ext", "reference"] = "ext"
    """native operators, or their plain PyTorch form"""
    epochs: int = 80
    """passes over the training list"""
    minutes: float | None = None
    """wall-clock budget; the schedule is shortened to fit it (then runs are not reproducible to the bit)"""
    final: bool = False
    """train on training and validation list together; the last weights are the result"""
    early_stop: int = 0
    """stop after so many judgements in a row without a better IoU on the validation list; 0 never stops"""
    batch_size: int = 8
    """images per step, over all processes together"""
    drop_last: bool = True
    """leave the last batch of an epoch out where it is short (and not the only one)"""
    optimizer: OptimizerName = "adamw"
    """adamw, adam, adan or sgd"""
    lr: float = 2e-3
    """learning rate after the warm-up"""
    betas: tuple[float, ...] | None = None
    """decay rates of the optimizer's averages, two or, for adan, three (default: the optimizer's own)"""
    eps: float = 1e-8
    """what adamw, adam and adan add to the denominator"""
    momentum: float = 0.9
    """momentum of sgd"""
    nesterov: bool = True
    """Nesterov's momentum for sgd"""
    weight_decay: float = 0.01
    """weight decay"""
    decay_norms: bool = True
    """weight decay on norms, biases and embeddings too"""
    schedule: ScheduleName = "cosine"
    """learning rate after the warm-up: cosine, poly, step or constant"""
    schedule_by: Literal["step", "epoch"] = "step"
    """change the learning rate at every step, or at every epoch only"""
    lr_min: float = 0.0
    """learning rate at which cosine, poly and step end"""
    cosine_period: float | None = None
    """epochs from the highest to the lowest rate of cosine (default: all after the warm-up); it swings back up beyond"""
    poly_power: float = 0.9
    """exponent of poly"""
    milestones: tuple[float, ...] = ()
    """epochs at which step multiplies the learning rate by gamma"""
    gamma: float = 0.1
    """factor of step"""
    warmup_epochs: float = 2.0
    """epochs of warm-up, at most half of all"""
    warmup: WarmupName = "linear"
    """form of the warm-up: linear, exponential or constant"""
    warmup_start: float = 0.01
    """share of the learning rate at which the warm-up begins"""
    clip: float = 0.0
    """largest gradient norm; 0 is no clipping"""
    ema: float = 0.99
    """decay of the averaged weights that are judged and saved; 0 uses the weights as they are"""
    crop: int | None = None
    """side of the training crops in pixels (default: the network's own size, else 256)"""
    resize: int | None = None
    """side of the square that every training image is resized to before it is scaled and cropped (default: left as it is)"""
    scale: tuple[float, float] = (0.75, 1.5)
    """range of the random scale before the crop"""
    scale_law: Literal["log", "uniform"] = "log"
    """how the random scale is drawn from its range"""
    positive: float = 0.5
    """share of crops that must hold a target where the image has one"""
    flip: bool = True
    """random flips"""
    vertical: bool = True
    """flip upside down too, not only left to right"""
    transpose: bool = True
    """random transposes"""
    blur: float = 0.0
    """share of images that are blurred"""
    blur_sigma: tuple[float, float] = (0.3, 1.0)
    """range of the blur's deviation in pixels"""
    noise: float = 0.0
    """share of images that get Gaussian noise"""
    noise_sigma: tuple[float, float] = (0.002, 0.02)
    """range of the noise's deviation, where the full scale is 1"""
    copy_paste: float = 0.0
    """share of images that get targets of other training images"""
    copy_paste_max: int = 3
    """most targets pasted into one image"""
    pad: Literal["reflect", "zeros"] = "reflect"
    """what surrounds an image that is smaller than its crop"""
    mask_resize: Literal["keep", "nearest"] = "keep"
    """resizing of masks: nearest neighbour, with or without keeping the targets that fall between its samples"""
    normalisation: str = "data"
    """mean and deviation of the training list, or a named preset such as ImageNet or NUDT-SIRST"""
    masks: Literal["binarise", "strict", "full", "nonzero"] = "binarise"
    """masks with grey values: target above half scale (with a warning), refused, target at full scale only, or target above 0"""
    mask_mismatch: Literal["resize", "skip", "error"] = "resize"
    """masks of another size than their image: resize where the shapes agree, leave the image out, or refuse"""
    full_scale: float | None = None
    """value of an image file that means 1 (default: from its type; 16383 for 14-bit data in 16-bit files)"""
    val_every: int = 1
    """epochs between two judgements on the validation list"""
    seed: int = 0
    """seed of the weights, the order and the augmentation"""
    seeds: tuple[int, ...] = ()
    """train once for each of these, into OUT/seed-N, and report mean and deviation"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """arithmetic of training; bf16 and fp16 are mixed precision"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to train"""
    devices: int = 1
    """processes on each node, one for each GPU"""
    nodes: int = 1
    """computers that train together"""
    strategy: Literal["auto", "ddp", "ddp-unused"] = "auto"
    """several processes: ddp, or ddp-unused where a loss leaves parameters out; auto is ddp where there are several"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""
    workers: int = 0
    """processes that load images, for each training process; results do not depend on it"""
    tensorboard: bool = False
    """also write TensorBoard logs into the run folder"""
    progress: bool = True
    """progress bar"""
    resume: bool = False
    """continue the run in the folder from its last finished epoch; what is not given here, network and data too, is taken from it"""
    overwrite: bool = False
    """replace the run in the folder"""


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says: training values and constructor options of the network."""

    values: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


# What belongs to one call and not to a recipe.
_NOT_IN_RECIPE = {"model", "data", "out", "recipe", "resume", "overwrite", "progress", "option", "weights"}


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
            raise ValueError(f"recipe: {path}: unknown key {key!r}{_meant(key, known)}")
        values[key] = tuple(value) if isinstance(value, list) else value
    return Recipe(values, dict(options))


def _meant(key: str, known: Mapping[str, Any]) -> str:
    """The end of the line about an unknown key: what it may have been."""
    if key in _NOT_IN_RECIPE:
        return "; network options are a table [options]" if key == "option" else "; it belongs to the command line"
    close = difflib.get_close_matches(key.replace("-", "_"), [*known, "options"], 3)
    guess = f", did you mean {' or '.join(close)}?" if close else ";"
    return f"{guess} Keys are the long options of irstd train --help, with underscores"


def find_recipe(name: str, recipes: Mapping[str, Path]) -> Path:
    """The file of a recipe: a path ending in .toml, or the name of one that the network ships."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in recipes:
        raise ValueError(f"recipe: must be a .toml file or one of {', '.join(recipes) or 'none shipped'}, got {name!r}")
    return recipes[name]


def parse_options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Turn ``("attention=linear", "width=16")`` into ``{"attention": "linear", "width": 16}``; values read as TOML or Python's True and False, else as text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"train: option must be NAME=VALUE, got {pair!r}")
        try:
            options[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            options[name] = {"True": True, "False": False}.get(text, text)
    return options
