"""`irstd eval`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from python_models.cli import check_run_options

if TYPE_CHECKING:
    from python_models.baselines import TopHat

Protocol = Literal["exact", "legacy", "overlap", "shooting"]


@dataclass(frozen=True)
class Config:
    """Judge a run on the test list of its data set; the figures go into its metrics.json with protocol, list hash, size and threshold.

    Examples:
      irstd eval runs/a
      irstd eval runs/a --baseline tophat --protocol exact legacy
      irstd eval runs/a --data DATA/NUDT-SIRST --split 50_50 --eval-size 256
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """run folder"""
    data: Path | None = None
    """folder of the data set (default: that of the run)"""
    split: str | None = None
    """name of the split (default: that of the run)"""
    part: Literal["test", "val", "train", "trainval"] = "test"
    """which list"""
    protocol: tuple[Protocol, ...] = ("exact",)
    """rules of Pd and Fa"""
    eval_size: int | None = None
    """judge at this square size instead of the native one"""
    threshold: float = 0.5
    """probability above which a pixel is target"""
    weights: Literal["best", "last"] = "best"
    """selected weights or those of the last epoch"""
    baseline: Literal["none", "tophat"] = "none"
    """also judge the top-hat filter, its size and threshold fitted on the training list"""
    masks: Literal["binarise", "strict"] = "binarise"
    """masks with grey values: binarise at half scale with a warning, or refuse"""
    backend: Literal["ext", "reference"] = "ext"
    """native operators, or their plain PyTorch form"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run the network"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""


def describe(filter: TopHat) -> str:
    """The filter's two values in words."""
    return f"{filter.size}x{filter.size} pixels, {filter.k:g} standard deviations above the mean"


def _warn_of_seen_images(stored: dict[str, Any], root: Path, dataset: Any) -> None:
    """Splits of one data set overlap: an image that was trained on proves nothing."""
    import warnings

    from python_models.data.splits import part_names

    home, split = Path(stored["data"]["root"]), stored["data"]["split"]
    if root.name != home.name or dataset.split == split or not home.is_dir():
        return
    seen = set(part_names(home, split, "trainval", 0)[1]) & set(dataset.names)
    if seen:
        warnings.warn(f"{len(seen)} of the {len(dataset)} images are in the training lists of the run ({split})", stacklevel=1)


def run(config: Config) -> int:
    """Judge, print the table and store the figures."""
    from tqdm import tqdm

    from python_models.baselines import TopHat
    from python_models.data import open_dataset
    from python_models.evaluation import evaluate, table
    from python_models.inference import network_scorer
    from python_models.runs import add_metrics, load_run, read_config

    if config.eval_size is not None and config.eval_size < 1:
        raise ValueError(f"eval_size must be >= 1, got {config.eval_size}")
    device = check_run_options(config.device, config.threads, config.threshold)
    stored = read_config(config.run)
    root = config.data or Path(stored["data"]["root"])
    split = config.split or stored["data"]["split"]
    net = load_run(config.run, config.weights, config.backend, device)
    dataset = open_dataset(root, split=split, part=config.part, masks=config.masks)
    if len(dataset) == 0:
        raise ValueError(f"the {config.part} list of split {split} in {root} must hold an image, got none")
    _warn_of_seen_images(stored, root, dataset)
    scorers: dict[str, Any] = {stored["model"]["name"]: network_scorer(net)}
    if config.baseline == "tophat":
        scorers["top-hat"] = TopHat.fit(open_dataset(root, split=split, part="train", masks=config.masks))
    judged: dict[str, dict[str, dict[str, Any]]] = {p: {} for p in config.protocol}
    for name, scorer in scorers.items():
        # The probability threshold belongs to the network; the filter's own is fitted.
        threshold = config.threshold if name != "top-hat" else 0.5
        bar = tqdm(dataset, desc=f"eval {name}", unit="image", dynamic_ncols=True, leave=False)
        for protocol, figures in evaluate(scorer, bar, config.protocol, config.eval_size, threshold).items():
            judged[protocol][name] = figures
    size = "native" if config.eval_size is None else f"{config.eval_size}x{config.eval_size}"
    print(f"{root} split {dataset.split} ({dataset.split_hash}) {config.part}: {len(dataset)} images, {size} size, threshold {config.threshold}, {config.weights} weights")
    for protocol, rows in judged.items():
        print(f"protocol {protocol}\n{table(rows)}")
        key = f"{Path(root).name}/{dataset.split}/{config.part}/{protocol}/{size}/{config.threshold}/{config.weights}"
        path = add_metrics(config.run, key, {
            "data": str(root), "split": dataset.split, "part": config.part, "split_hash": dataset.split_hash, "images": len(dataset),
            "protocol": protocol, "eval_size": size, "threshold": config.threshold, "weights": config.weights, "masks": config.masks,
            "figures": rows, **({"tophat": vars(scorers["top-hat"])} if "top-hat" in scorers else {}),
        })
    if "top-hat" in scorers:
        print(f"top-hat: {describe(scorers['top-hat'])}, fitted on the training list")
    print(f"written to {path}")
    return 0
