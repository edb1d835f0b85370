"""`irstd eval`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from python_models.cli import check_run_options

if TYPE_CHECKING:
    from python_models.baselines import TopHat
    from python_models.data import IRSTDDataset
    from python_models.evaluation import Assessment, PredictionFiles, Source

Protocol = Literal["exact", "legacy", "overlap", "shooting"]
GT_RULES = {"binarise": "half", "strict": "half", "full": "full", "nonzero": "nonzero"}


@dataclass(frozen=True)
class Config:
    """Judge a run, or anybody's prediction files, on a list of a data set, under every protocol in one pass.

    Prints the tables and writes result.json, images.csv, targets.jsonl, curve.csv, roc.csv and the plots to RUN/eval/NAME or --out.

    Examples:
      irstd eval runs/a --baseline tophat
      irstd eval runs/seeds
      irstd eval runs/a --data DATA/NUDT-SIRST --split 50_50 --eval-size 256 --protocol legacy --fixed-pixels 65536
      irstd eval --predictions FOLDER --data DATA/NUAA-SIRST --split idx_427 --suffix _pred
    """

    run: Annotated[Positional[Path | None], arg(metavar="RUN")] = None
    """run folder, or the folder of a training from several seeds: each is judged, mean and deviation go to RUN/eval-seeds.json"""
    predictions: Path | None = None
    """judge the files of this folder instead: one mask, score map or map of logits per image, .png .bmp .tif or .npy"""
    data: Path | None = None
    """folder of the data set (default: that of the run)"""
    split: str | None = None
    """name of the split (default: that of the run, or the only one)"""
    part: Literal["test", "val", "train", "trainval"] = "test"
    """which list"""
    protocol: tuple[Protocol, ...] = ("exact", "legacy", "overlap", "shooting")
    """rules of Pd and Fa"""
    threshold: float = 0.5
    """probability above which a pixel is target"""
    eval_size: int | None = None
    """judge at this square size instead of the native one"""
    mask_resize: Literal["nearest", "area"] = "nearest"
    """masks at another size: nearest neighbour, or target wherever a true pixel falls"""
    masks: Literal["binarise", "strict", "full", "nonzero"] = "binarise"
    """masks with grey values: above half scale with a warning, refused, full scale only, or all above 0"""
    mask_mismatch: Literal["resize", "skip", "error"] = "resize"
    """masks of another size than their image: resized where the shapes agree, left out, or refused"""
    full_scale: float | None = None
    """the value of an image file that means 1.0 (default: that of the run, else from the file's type)"""
    empty: Literal["zero", "skip"] = "zero"
    """an image with neither target nor prediction counts 0 in nIoU, or not at all"""
    fixed_pixels: int | None = None
    """pixels per image that Fa is divided by, instead of the true number (65536 in DNANet)"""
    maxnorm: bool = False
    """divide each prediction by its own maximum first (RPCANet): every image then has a detection"""
    input: Literal["auto", "mask", "scores", "logits"] = "auto"
    """how the numbers in the prediction files are meant; auto: what fits all of them, said, or an error"""
    suffix: str = ""
    """what the prediction files have after the image's name"""
    resize_predictions: Literal["no", "nearest", "bilinear"] = "no"
    """prediction files of another size than their image: an error, or resized"""
    bootstrap: int = 1000
    """samples of the images for the 95 % intervals, at most a million; 0: no intervals"""
    seed: int = 0
    """seed of the samples"""
    baseline: Literal["none", "tophat"] = "none"
    """also judge the top-hat filter, its size and threshold fitted on the training list"""
    weights: Literal["best", "last", "raw"] = "best"
    """selected weights, those of the last epoch, or those as the optimiser left them where the run averages"""
    out: Path | None = None
    """folder to write, and leave the run's own as it is (default: RUN/eval/NAME, or eval/NAME for predictions)"""
    overwrite: bool = False
    """give up another evaluation in the folder; the same one is always replaced"""
    plots: bool = True
    """draw pd_fa.png and roc.png"""
    json: bool = False
    """print result.json instead of the tables"""
    backend: Literal["ext", "reference"] = "ext"
    """native operators, or their plain PyTorch form"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run the network"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""


def describe(filter: TopHat) -> str:
    """The filter's two values in words."""
    return f"{filter.size}x{filter.size} pixels, {filter.k:g} standard deviations above the mean"


def run(config: Config) -> int:
    """Judge the run, the predictions, or each run of a folder of seeds, and print."""
    from python_models.evaluation import seed_runs

    seeds = seed_runs(config.run) if config.run else {}
    if seeds:
        return _run_seeds(config, seeds)
    folder, lines = _judge(config)
    print((folder / "result.json").read_text(encoding="utf-8") if config.json else "\n".join(lines) + "\n", end="")
    return 0


def _run_seeds(config: Config, seeds: dict[int, Path]) -> int:
    """Judge every run, then write and print mean and standard deviation over the seeds."""
    import dataclasses
    import json

    from python_models.evaluation import EVAL_SEEDS, judge_seeds, known_summaries, seeds_tables, write_summary

    def judge(seed: int, folder: Path) -> dict[str, Any]:
        written, lines = _judge(dataclasses.replace(config, run=folder, out=config.out and config.out / folder.name))
        if not config.json:
            print("\n".join([f"seed {seed}: {folder}", *lines, ""]), flush=True)
        return json.loads((written / "result.json").read_text(encoding="utf-8"))

    path = (config.out or config.run) / EVAL_SEEDS
    known_summaries(path)  # a damaged file is an error before any work
    summary = judge_seeds(seeds, config.weights, judge)
    write_summary(path, _slug(config, summary), summary)
    end = [f"{len(seeds)} seeds, mean and standard deviation (n - 1)", "", seeds_tables(summary), "", f"written to {path}"]
    print(json.dumps(summary, indent=2) if config.json else "\n".join(end))
    return 0


def _judge(config: Config) -> tuple[Path, list[str]]:
    """Judge, write the folder and the run's summary; the folder, and what is printed."""
    from tqdm import tqdm

    from python_models.baselines import TopHat
    from python_models.data import find_layout, open_dataset
    from python_models.data.splits import choose
    from python_models.evaluation import (Rules, Source, about_figures, as_json, assess, check_folder, draw_results, headlines, notes_on_run, replacing,
                                          tables, write_results)
    from python_models.runs import read_config

    c = config
    rules = Rules(c.protocol, c.threshold, c.eval_size, c.mask_resize, c.empty, c.fixed_pixels, c.maxnorm, GT_RULES[c.masks], c.bootstrap, c.seed)
    device = check_run_options(config.device, config.threads)
    stored = _check_sources(config) or read_config(config.run)
    root, split = Path(config.data or stored["data"]["root"]), config.split or stored["data"]["split"]
    scale = stored.get("train", {}).get("full_scale") if config.full_scale is None else config.full_scale
    reading: dict[str, Any] = {"masks": config.masks, "mask_mismatch": config.mask_mismatch, "full_scale": scale}
    sources = [_network(config, stored["model"]["name"], device)] if config.run else []
    dataset = open_dataset(root, split=split, part=config.part, **reading)
    if len(dataset) == 0:
        raise ValueError(f"the {config.part} list of split {dataset.split} in {root} must hold an image, got none")
    facts = _facts(config, dataset, reading) | {"part_note": choose(find_layout(root), split, config.part).note, "device": device if config.run else "cpu"}
    notes = notes_on_run(config.run, root, dataset.names) if config.run else []
    files = _files(config, dataset) if config.predictions else None
    if files is not None:
        facts["input"] = files.kind
        sources.append(Source(files.folder.resolve().name, lambda sample, image: files.read(sample["name"], tuple(image.shape[1:])), files.input, timed=False))
    folder = _folder(config, facts)
    check_folder(folder, facts, config.overwrite)
    with replacing(folder) as new:
        filter = TopHat.fit(open_dataset(root, split=split, part="train", **reading)) if config.baseline == "tophat" else None
        if filter is not None:
            # The probability threshold belongs to the network; the filter's own is fitted.
            sources.append(Source("top-hat", lambda _, image: filter(image), threshold=0.5))
            facts["tophat"] = vars(filter)
        found = []
        for source in sources:
            with tqdm(dataset, desc=f"eval {source.name}", unit="image", dynamic_ncols=True, leave=False, disable=None) as bar:
                found.append(assess(source, bar, rules))
        notes += about_figures(found)
        facts |= {"seconds_per_image": found[0].seconds_per_image, "threads": _threads(), "notes": notes}
        write_results(new, as_json(facts, found), found)
        if config.plots:
            try:
                draw_results(new, found)
            except ImportError as error:
                print(f"irstd eval: no plots: {error}", file=sys.stderr)
    if config.run and config.out is None:
        _summarise(config, facts, found)
    lines = [headlines(facts, found, files.described if files else ""), "", tables(found), "", *(f"note: {note}" for note in notes)]
    for a in found:
        if a.unlisted:
            lines.append(f"{a.name}: {a.unlisted} more false alarms are counted, targets.jsonl lists the highest of each image")
        if a.seconds_per_image is not None:
            lines.append(f"{a.name}: {1e3 * a.seconds_per_image:.1f} ms per image (median, the scorer alone), {facts['device']}, {facts['threads']} threads")
    if filter is not None:
        lines.append(f"top-hat: {describe(filter)}, fitted on the training list")
    return folder, [*lines, f"written to {folder}"]


def _check_sources(config: Config) -> dict[str, Any]:
    """One of RUN and --predictions, with the options that belong to it; for predictions, what stands in for a run's configuration."""
    if (config.run is None) == (config.predictions is None):
        raise ValueError(f"give a RUN or --predictions FOLDER, got {'neither' if config.run is None else 'both'}")
    if config.predictions is None:
        for name, default in (("input", "auto"), ("suffix", ""), ("resize_predictions", "no")):
            if getattr(config, name) != default:
                raise ValueError(f"{name} belongs to --predictions, got a run")
        return {}
    if config.predictions.resolve().name == "top-hat" and config.baseline == "tophat":
        raise ValueError(f"predictions: {config.predictions} must not have the name of the baseline, top-hat")
    if config.data is None:
        raise ValueError("data must be given with --predictions: the folder of the data set")
    return {"model": {"name": None}, "data": {"root": config.data, "split": None}}


def _network(config: Config, name: str, device: str) -> Source:
    from python_models.evaluation import Source
    from python_models.inference import network_scorer
    from python_models.runs import load_run

    scorer = network_scorer(load_run(config.run, config.weights, config.backend, device))
    return Source(name, lambda _, image: scorer(image))


def _files(config: Config, dataset: IRSTDDataset) -> PredictionFiles:
    """The prediction files, checked as a whole against the sizes the images are judged at."""
    import warnings

    from python_models.data import image_size
    from python_models.data.errors import some
    from python_models.evaluation import open_predictions

    square = config.eval_size and (config.eval_size, config.eval_size)
    sizes = {pair.name: square or image_size(pair.image) for pair in dataset.pairs}
    files = open_predictions(config.predictions, sizes, config.input, config.suffix, None if config.resize_predictions == "no" else config.resize_predictions)
    if files.unused:
        warnings.warn(f"{len(files.unused)} files of {files.folder} belong to no image of the list: {some([p.name for p in files.unused])}", stacklevel=1)
    return files


def _facts(config: Config, dataset: IRSTDDataset, reading: dict[str, Any]) -> dict[str, Any]:
    """What goes with every figure: data, list and rules."""
    from python_models.evaluation import about_run
    from python_models.runs import versions

    judged = about_run(config.run, config.weights) if config.run else {"run": None, "model": None, "preset": None, "weights_sha256": None}
    return judged | {
        "data": str(Path(dataset.root).resolve()), "split": dataset.split, "part": dataset.part, "split_hash": dataset.split_hash, "images": len(dataset),
        "eval_size": _size(config), "mask_resize": config.mask_resize, "threshold": config.threshold, **reading, "gt_rule": GT_RULES[config.masks],
        "empty": config.empty, "fixed_pixels": config.fixed_pixels, "maxnorm": config.maxnorm, "protocols": list(config.protocol),
        "weights": config.weights if config.run else None, "predictions": str(config.predictions.resolve()) if config.predictions else None, "input": "logits",
        "suffix": config.suffix, "resize_predictions": config.resize_predictions,
        "bootstrap": {"samples": config.bootstrap, "seed": config.seed, "level": 0.95}, "versions": versions(),
    }


def _folder(config: Config, facts: dict[str, Any]) -> Path:
    """Where the result goes; a name for what was judged and for every rule that differs from the defaults."""
    from python_models.evaluation import slug

    if config.out is not None:
        return config.out
    name = _slug(config, facts)
    return config.run / "eval" / name if config.run else Path("eval") / slug(Path(facts["predictions"]).name, name)


def _slug(config: Config, facts: dict[str, Any]) -> str:
    from python_models.evaluation import slug

    return slug(Path(facts["data"]).name, facts["split"], facts["part"], _size(config), config.threshold, facts["weights"], config.suffix, *_unusual(config))


def _size(config: Config) -> str:
    return "native" if config.eval_size is None else f"{config.eval_size}x{config.eval_size}"


def _unusual(config: Config) -> list[str]:
    """Words in the folder's name for what differs from the defaults."""
    words = [value for name in ("masks", "mask_mismatch", "mask_resize", "empty", "input") if (value := getattr(config, name)) != getattr(Config, name)]
    words += [f"per{config.fixed_pixels}"] if config.fixed_pixels else []
    words += ["maxnorm"] if config.maxnorm else []
    words += [f"scale{config.full_scale:g}"] if config.full_scale is not None else []
    words += [f"resized_{config.resize_predictions}"] if config.resize_predictions != "no" else []
    return words + (list(config.protocol) if config.protocol != Config.protocol else [])


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _summarise(config: Config, facts: dict[str, Any], found: list[Assessment]) -> None:
    """An entry per protocol in the run's metrics.json."""
    from python_models.runs import add_metrics

    shared = {k: v for k, v in facts.items() if k not in ("protocols", "versions", "predictions", "input", "suffix", "resize_predictions")}
    tail = "/".join([_size(config), str(config.threshold), config.weights, *[w for w in _unusual(config) if w not in config.protocol]])
    for protocol in config.protocol:
        key = f"{Path(facts['data']).name}/{facts['split']}/{config.part}/{protocol}/{tail}"
        add_metrics(config.run, key, {**shared, "protocol": protocol, "figures": {a.name: a.figures[protocol] for a in found}})
