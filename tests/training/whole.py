"""Whatever a run leaves, in a form that compares to the bit."""
import csv
import json

from python_models.training.checkpoint import load_state


def log(folder):
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def everything(folder):
    """Files, weights, resume state, log, figures and configuration, without the times and the names of folders."""
    state = load_state(folder / "last")
    state["irstd"]["spent"] = None
    config = json.loads((folder / "config.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["training"]["seconds"] = None
    return {
        "files": sorted(p.name for p in folder.iterdir()), "last": sorted(p.name for p in (folder / "last").iterdir()),
        "weights": {p.name: p.read_bytes() for p in folder.glob("*.safetensors")}, "state": flat(state),
        "log": [{k: v for k, v in row.items() if k != "seconds"} for row in log(folder)],
        "config": {**config, "train": {k: v for k, v in config["train"].items() if k not in ("out", "resume")}}, "metrics": metrics,
    }


def flat(value, place=""):
    """Leaves of a nested state by their places; tensors as their bytes, types and layouts."""
    if hasattr(value, "numpy"):
        return {place: (str(value.dtype), tuple(value.shape), value.stride(), value.contiguous().view(-1).numpy().tobytes())}
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{place}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for n, item in enumerate(value) for k, v in flat(item, f"{place}/{n}").items()}
    return {place: repr(value)}
