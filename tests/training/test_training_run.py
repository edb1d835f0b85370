"""Whole trainings: what a run folder holds, selection, refusals, and that the test list stays unseen."""
import json

import pytest
import torch
from training.whole import log

from python_models.data import compute_normalisation, dataset as dataset_module, open_dataset
from python_models import runs as run_folder
from python_models.files import read_weights
from python_models.training.train import train


def weights(folder):
    return read_weights(folder / "model.safetensors"), read_weights(folder / "best.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_run_folder_holds_what_it_promises(trained, data):
    assert {p.name for p in trained.iterdir()} == {"config.json", "model.safetensors", "best.safetensors", "raw.safetensors", "last", "metrics.json", "log.csv"}
    config = json.loads((trained / "config.json").read_text())
    train_set, val_set = (open_dataset(data, "synth", part) for part in ("train", "val"))
    assert config["model"]["name"] == "sgem_unet" and config["model"]["options"]["attention"] == "linear"
    assert config["data"]["parts"] == {"train": {"images": 12, "hash": train_set.split_hash}, "val": {"images": 4, "hash": val_set.split_hash}}
    assert config["train"]["epochs"] == 2 and config["train"]["lr"] == 2e-3 and config["train"]["preset"] == "paper"
    assert "torch" in config["versions"]
    rows = log(trained)
    assert [(r["epoch"], r["step"]) for r in rows] == [("0", "3"), ("1", "6")]
    assert all(float(r["loss"]) > 0 and r["val_IoU"] != "" for r in rows)
    selected = json.loads((trained / "metrics.json").read_text())["training"]["selected"]
    assert selected["IoU"] == max(float(r["val_IoU"]) for r in rows)


def test_load_run_gives_the_selected_and_the_last_weights(trained, data):
    best, last = run_folder.load_run(trained), run_folder.load_run(trained, "last", backend="reference")
    model, selected = weights(trained)
    assert equal(best.state_dict(), selected) and equal(last.state_dict(), model)
    assert not best.training
    mean, std = compute_normalisation(open_dataset(data, "synth", "train"))
    assert best.normaliser.mean.tolist() == pytest.approx([mean] * 3) and best.normaliser.std.tolist() == pytest.approx([std] * 3)


def test_same_seed_same_run_and_another_seed_another(config, change, tmp_path):
    runs = [change(config, out=tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for one in runs:
        train(one)
    (a, _), (b, _), (c, _) = (weights(r.out) for r in runs)
    assert equal(a, b) and not equal(a, c)


def test_a_folder_with_content_is_refused(config, change):
    config.out.mkdir()
    (config.out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty and holds no run; give another --out"):
        train(config)
    with pytest.raises(FileExistsError, match="holds no run"):
        train(change(config, overwrite=True))
    assert [p.name for p in config.out.iterdir()] == ["notes.txt"]


def test_overwrite_replaces_the_run_and_nothing_else(config, change):
    train(change(config, epochs=1))
    (config.out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds a run"):
        train(config)
    assert len(log(config.out)) == 1
    train(change(config, overwrite=True))
    assert len(log(config.out)) == 2 and (config.out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("final", [False, True])
def test_the_test_list_is_never_read(config, change, data, monkeypatch, final):
    seen = set()
    read = dataset_module.IRSTDDataset.image
    monkeypatch.setattr(dataset_module.IRSTDDataset, "image", lambda self, i: seen.add(self.names[i]) or read(self, i))
    opened = []
    make = dataset_module.IRSTDDataset.__init__

    def made(self, pairs, root, split, part, *args, **kwargs):
        opened.append(part)
        make(self, pairs, root, split, part, *args, **kwargs)

    monkeypatch.setattr(dataset_module.IRSTDDataset, "__init__", made)
    train(change(config, final=final))
    names = {part: set((data / "synth" / f"{part}.txt").read_text().split()) for part in ("train", "val", "test")}
    assert seen == names["train"] | names["val"] and not seen & names["test"]
    assert opened == (["trainval"] if final else ["train", "val"])


def test_final_keeps_the_last_weights(config, change):
    summary = train(change(config, final=True))
    model, best = weights(config.out)
    assert equal(model, best) and summary["selected"]["epoch"] == 1
    assert json.loads((config.out / "config.json").read_text())["data"]["parts"]["trainval"]["images"] == 16
    assert all(row["val_IoU"] == "" for row in log(config.out))


def test_selection_keeps_the_epoch_with_the_highest_iou(config, change, monkeypatch):
    from python_models.training import train as module

    ious = iter([0.2, 0.6, float("nan"), 0.4])
    monkeypatch.setattr(module, "evaluate", lambda *_: {"exact": {"IoU": next(ious), "nIoU": 0.0, "Pd": 0.0, "Fa": 0.0}})
    saved = []
    from python_models.training import recorder

    keep = recorder.save_weights
    monkeypatch.setattr(recorder, "save_weights", lambda folder, state, best, raw: (saved.append(best), keep(folder, state, best, raw)))
    summary = train(change(config, epochs=4))
    assert saved == [True, True, False, False] and summary["selected"]["epoch"] == 1 and summary["selected"]["IoU"] == 0.6


def test_time_budget_ends_the_training_with_a_judged_epoch(config, change):
    summary = train(change(config, epochs=10_000, minutes=0.015))
    assert 1 <= summary["epochs"] < 10_000
    assert log(config.out)[-1]["val_IoU"] != ""


def test_tensorboard_logs_lie_in_the_run_folder(config, change):
    pytest.importorskip("tensorboard", reason="the extra `train` is not installed")
    train(change(config, tensorboard=True, epochs=1))
    assert list((config.out / "tensorboard").glob("events*"))


def test_bfloat16_trains_and_keeps_float32_weights(config, change):
    train(change(config, precision="bf16", epochs=1))
    train(change(config, epochs=1, out=config.out.with_name("fp32")))
    half, single = weights(config.out)[0], weights(config.out.with_name("fp32"))[0]
    assert all(t.dtype == single[k].dtype for k, t in half.items()) and not equal(half, single)


@pytest.mark.parametrize("values,message", [
    ({"precision": "fp16"}, "precision fp16 needs a GPU"), ({"option": ("attention=bilinear", "input_size=64")}, "crop must be 64, the fixed input size"),
    ({"split": "other"}, "split must be one of: synth; got 'other'"), ({"model": "unet"}, "no network 'unet'"),
])
def test_wrong_values_are_refused_before_the_folder_is_made(config, change, values, message):
    with pytest.raises(ValueError, match=message):
        train(change(config, **values))
    assert not config.out.exists()


def test_damaged_runs_are_one_clear_error(tmp_path, trained):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        run_folder.load_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        run_folder.load_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        run_folder.load_run(tmp_path)
    (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match="best.safetensors does not exist"):
        run_folder.load_run(tmp_path)
    config = json.loads((trained / "config.json").read_text())
    config["model"]["options"]["widths"] = [4, 4, 8, 8, 16]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "best.safetensors").write_bytes((trained / "best.safetensors").read_bytes())
    with pytest.raises(ValueError, match="does not fit sgem_unet") as error:
        run_folder.load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_log_replaces_rows_of_redone_epochs(tmp_path):
    for epoch, loss in ((0, 3.0), (1, 2.0), (2, 9.0), (1, 1.0)):
        run_folder.append_log(tmp_path, {"epoch": epoch, "loss": loss})
    assert [(r["epoch"], r["loss"]) for r in log(tmp_path)] == [("0", "3.0"), ("1", "1.0")]


def test_metrics_file_keeps_what_is_there(tmp_path):
    run_folder.add_metrics(tmp_path, "a", {"IoU": 0.5})
    run_folder.add_metrics(tmp_path, "b", {"IoU": float("nan")})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"a": {"IoU": 0.5}, "b": {"IoU": None}}
