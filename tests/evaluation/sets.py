"""Made sets for the tests of evaluation: images and masks on disk, prediction files of them, the command line over both."""
import json
from pathlib import Path

import numpy as np
from PIL import Image

from python_models import cli

VECTORS = Path(__file__).parents[1] / "vectors" / "metrics"


def write_set(root, masks, images=None):
    """A data set with the split `s`, whose test list holds all images `a0`, `a1`, ...; masks are boolean."""
    for folder in ("images", "masks", "s"):
        (root / folder).mkdir(parents=True)
    names = [f"a{i}" for i in range(len(masks))]
    for i, (name, mask) in enumerate(zip(names, masks)):
        mask = np.asarray(mask) > 0
        image = (40 + 10 * np.indices(mask.shape).sum(0) % 30 + 120 * mask).astype(np.uint8) if images is None else images[i]
        Image.fromarray(image).save(root / "images" / f"{name}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(root / "masks" / f"{name}.png")
    (root / "s" / "test.txt").write_text("".join(f"{n}\n" for n in names))
    return root


def write_predictions(folder, arrays, kind="npy", suffix=""):
    """Files `a0`, `a1`, ... of arrays as .npy or as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, values in enumerate(arrays):
        path = folder / f"a{i}{suffix}.{kind}"
        if kind == "npy":
            np.save(path, values)
        else:
            Image.fromarray(values).save(path)
    return folder


def vectors(case):
    """(scores, masks, expected) of a file of tests/vectors/metrics."""
    with np.load(VECTORS / f"{case}.npz") as file:
        n = int(file["exp_n_images"])
        return [file[f"score_{i}"] for i in range(n)], [file[f"mask_{i}"] for i in range(n)], {k[4:]: file[k] for k in file.files if k.startswith("exp_")}


def judge(capsys, predictions, data, *options):
    """result.json of `irstd eval --predictions`, as printed."""
    capsys.readouterr()
    code = cli.main([str(a) for a in ("eval", "--predictions", predictions, "--data", data, "--json", "--no-plots", *options)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


def refused(capsys, *args):
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert cli.main([str(a) for a in ("eval", *args)]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("irstd eval: ") and ": warning: " not in line]
    assert len(lines) == 1 and "Traceback" not in err and not out
    return lines[0]
