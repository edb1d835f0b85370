"""What an evaluation says beside its figures: an unfinished training, a set too small for its figures."""
import json
import shutil

import numpy as np
import pytest
import torch
from evaluation.sets import judge, write_predictions, write_set

from python_models import cli
from python_models.evaluation import Rules, Source, about_figures, assess
from python_models.evaluation.notes import about_images, about_training


def set_of(count, hits, size=32):
    """Images with one target each, found with a margin in the first ``hits``."""
    mask = torch.zeros(1, size, size)
    mask[0, 4:6, 4:6] = 1
    samples = [{"image": mask, "mask": mask, "name": str(i), "path": str(i)} for i in range(count)]
    scores = Source("net", lambda sample, image: (8 if int(sample["name"]) < hits else -8) * mask[0] - 4)
    return samples, scores


def notes(count, hits, size=32, **rules):
    samples, source = set_of(count, hits, size)
    return about_figures([assess(source, samples, Rules(**{"bootstrap": 50, **rules}))])


def test_figures_at_the_edge_are_named():
    few, flat, small = notes(4, 4)
    assert few.startswith("4 images are few") and "net IoU" in flat and "Pd" in flat and "zero width" in flat
    assert small.startswith("Fa of at most 1e-06, 5e-06, 1e-05, 5e-05, 0.0001 is less than one of the 4096 pixels")
    assert notes(4, 4, bootstrap=0) == [small]
    flat, small = notes(30, 15)  # IoU and Pd have a width, no false alarm has none
    assert "net" in flat and " Fa" in flat and "IoU" not in flat and " Pd" not in flat.split("net", 1)[1]
    assert "1e-06, 5e-06, 1e-05 is less than one of the 30720" in small
    assert notes(1, 1, size=1000, bootstrap=0) == []  # 1e-06 of a million is a whole pixel
    assert len(notes(1, 1, size=999, bootstrap=0)) == 1


def test_fixed_pixels_decide_what_a_budget_allows():
    (small,) = notes(2, 1, fixed_pixels=499_999, bootstrap=0)
    assert small.startswith("Fa of at most 1e-06 is less than one of the 999998 pixels")
    assert notes(2, 1, fixed_pixels=500_000, bootstrap=0) == []


def test_notes_of_predictions_stand_in_the_result_and_below_the_tables(tmp_path, capsys):
    mask = np.zeros((20, 20), bool)
    mask[4:6, 4:6] = True
    data, folder = write_set(tmp_path / "set", [mask]), write_predictions(tmp_path / "p", [mask])
    result = judge(capsys, folder, data, "--out", tmp_path / "out")
    assert len(result["notes"]) == 3 and result["predictions"] == str(folder.resolve()) and result["run"] is result["weights_sha256"] is None
    assert cli.main([str(a) for a in ("eval", "--predictions", folder, "--data", data, "--no-plots", "--out", tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert [line[6:] for line in out.splitlines() if line.startswith("note: ")] == result["notes"] and out.index("note: ") > out.index("Pd % by SCR")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def change_config(run, **train):
    config = json.loads((run / "config.json").read_text())
    config["train"].update(train)
    (run / "config.json").write_text(json.dumps(config))


def test_an_unfinished_training_says_so(run, capsys):
    assert about_training(run) is None
    change_config(run, epochs=9)
    assert about_training(run) is None  # ended early: its summary is there
    (run / "metrics.json").unlink()
    words = "the training of the run has not finished: 2 of 9 epochs"
    assert about_training(run) == words
    assert cli.main(["eval", str(run), "--no-plots", "--bootstrap", "0", "--out", str(run.parent / "out")]) == 0
    assert f"note: {words}" in capsys.readouterr().out and words in json.loads((run.parent / "out" / "result.json").read_text())["notes"]
    change_config(run, minutes=20.0)
    assert about_training(run) == "the training of the run has not finished: 2 epochs of 20 min"
    change_config(run, minutes=None, epochs=2)
    assert about_training(run) is None
    (run / "metrics.json").write_text("[1]")
    with pytest.raises(ValueError, match="metrics.json is not valid JSON of a run"):
        about_training(run)


def test_images_of_another_set_are_never_those_of_the_training(run, data, tmp_path):
    names = (data / "synth" / "train.txt").read_text().split()
    assert about_images(run, data, names[:3]).startswith("3 of the 3 images") and about_images(run, tmp_path / "other", names) is None
    moved = shutil.copytree(data, tmp_path / "elsewhere" / data.name)
    assert about_images(run, moved, names[:3]).startswith("3 of the 3 images")
