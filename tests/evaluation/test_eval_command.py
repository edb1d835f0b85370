"""`irstd eval` on a trained run: what it prints and writes, what it refuses before the work, and what a second call changes."""
import csv
import hashlib
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from evaluation.sets import refused, write_predictions, write_set
from PIL import Image

from python_models import cli
from python_models.data import open_dataset
from python_models.evaluation.folder import FILES, replacing


@pytest.fixture
def run(trained, tmp_path):
    """A copy to write into."""
    return shutil.copytree(trained, tmp_path / "run")


def evaluate(capsys, *args):
    capsys.readouterr()
    code = cli.main(["eval", *map(str, args)])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out, err


def written(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_one_pass_prints_and_writes_everything(run, data, capsys):
    pytest.importorskip("matplotlib", reason="the extra `viz` is not installed")
    out, _ = evaluate(capsys, run, "--baseline", "tophat", "--bootstrap", 100)
    folder = run / "eval" / "data-synth-test-native-0.5-best"
    assert set(written(folder)) == set(FILES) and [p.name for p in (run / "eval").iterdir()] == [folder.name]
    result = json.loads((folder / "result.json").read_text())
    dataset = open_dataset(data, "synth", "test")
    assert (result["format"], result["split"], result["part"], result["split_hash"], result["images"]) == (1, "synth", "test", dataset.split_hash, 4)
    facts = {"data": str(data), "eval_size": "native", "threshold": 0.5, "weights": "best", "masks": "binarise", "gt_rule": "half", "empty": "zero",
             "fixed_pixels": None, "maxnorm": False, "device": "cpu", "threads": 1, "part_note": None}
    assert {k: result[k] for k in facts} == facts
    assert (result["run"], result["model"], result["preset"]) == (str(run), "sgem_unet", json.loads((run / "config.json").read_text())["model"]["preset"])
    assert result["weights_sha256"] == hashlib.sha256((run / "best.safetensors").read_bytes()).hexdigest()[:16]
    assert result["seconds_per_image"] > 0 and {"torch", "numpy", "irstd_ext"} <= set(result["versions"])
    network, tophat = result["scorers"]["sgem_unet"], result["scorers"]["top-hat"]
    for scorer in (network, tophat):
        assert set(scorer["figures"]) == set(scorer["intervals"]) == {"exact", "legacy", "overlap", "shooting"}
        assert list(scorer["pd_at_fa"]) == ["1e-06", "5e-06", "1e-05", "5e-05", "0.0001", "0.001"] and 0 <= scorer["auc"] <= 1
        assert sum(b["n_gt"] for b in scorer["by_size"]) == sum(b["n_gt"] for b in scorer["by_scr"]) == scorer["figures"]["exact"]["n_gt"]
        assert len(scorer["sweep"]["roc_tp"]) == 11 and scorer["curve_scores"] == "exact"
    for text in (dataset.split_hash, "native size, threshold 0.5", "4 images", "best weights", "exact", "legacy", "overlap", "shooting", "AUC %",
                 "Pd % by SCR", "objects/image", "95 % intervals from 100", "ms per image", "fitted on the training list", str(folder)):
        assert text in out
    with Image.open(folder / "pd_fa.png") as a, Image.open(folder / "roc.png") as b:
        assert a.format == b.format == "PNG" and a.tobytes() != b.tobytes()


def test_files_agree_with_each_other(run, capsys):
    evaluate(capsys, run, "--baseline", "tophat", "--no-plots", "--bootstrap", 0)
    folder = run / "eval" / "data-synth-test-native-0.5-best"
    scorers = json.loads((folder / "result.json").read_text())["scorers"]
    with open(folder / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    objects = [json.loads(line) for line in (folder / "targets.jsonl").read_text().splitlines()]
    for name, scorer in scorers.items():
        own = [r for r in rows if r["scorer"] == name]
        exact = scorer["figures"]["exact"]
        assert len(own) == 4
        for column in ("TP", "FP", "FN", "n_gt", "n_hit", "n_fp_objects", "fa_pixels"):
            assert sum(int(r[column]) for r in own) == exact[column]
        kinds = [o["kind"] for o in objects if o["scorer"] == name]
        assert (kinds.count("hit"), kinds.count("miss"), kinds.count("false_alarm")) == (exact["n_hit"], exact["n_gt"] - exact["n_hit"], exact["n_fp_objects"])
        for file_name, columns in (("curve.csv", ("n_hit", "fa_pixels", "fp_objects", "tp", "fp")), ("roc.csv", ("tp", "fp"))):
            with open(folder / file_name, newline="") as file:
                points = [r for r in csv.DictReader(file) if r["scorer"] == name]
            at = next(p for p in points if float(p["logit"]) <= 0)
            fields = {"fp_objects": "n_fp_objects", "tp": "TP", "fp": "FP"}
            assert [int(at[c]) for c in columns] == [exact[fields.get(c, c)] for c in columns]
        assert scorer["sweep"]["sweep_n_hit"][5] == exact["n_hit"]
    assert all(os.path.isfile(r["path"]) for r in rows) and {r["path"] for r in rows} >= {o["path"] for o in objects}


def test_the_same_call_writes_the_same_files(run, capsys):
    pytest.importorskip("matplotlib", reason="the extra `viz` is not installed")
    folder = run / "eval" / "data-synth-test-native-0.5-best"
    evaluate(capsys, run, "--bootstrap", 50, "--seed", 1)
    one = written(folder)
    evaluate(capsys, run, "--bootstrap", 50, "--seed", 1)
    two = written(folder)
    times = [{k: json.loads(x["result.json"])["scorers"]["sgem_unet"].pop("seconds_per_image") for k in "a"} for x in (one, two)]
    texts = [x.pop("result.json").decode().replace(str(t["a"]), "T") for x, t in zip((one, two), times)]
    assert one == two and texts[0] == texts[1]
    evaluate(capsys, run, "--bootstrap", 50, "--seed", 2)
    assert written(folder)["result.json"].decode() != texts[0] and written(folder)["images.csv"] == one["images.csv"]


def test_figures_do_not_depend_on_threads(run, capsys):
    results = []
    for threads in (1, 2):
        evaluate(capsys, run, "--no-plots", "--bootstrap", 20, "--threads", threads, "--out", run.parent / f"t{threads}")
        results.append(json.loads((run.parent / f"t{threads}" / "result.json").read_text()))
    assert results[0]["scorers"]["sgem_unet"]["figures"] == results[1]["scorers"]["sgem_unet"]["figures"]
    assert [r["threads"] for r in results] == [1, 2]


def test_options_reach_the_figures_and_the_name(run, capsys):
    out, _ = evaluate(capsys, run, "--protocol", "legacy", "overlap", "--eval-size", 48, "--mask-resize", "area", "--threshold", 0.3, "--weights", "last",
                      "--empty", "skip", "--fixed-pixels", 65536, "--no-plots", "--bootstrap", 0)
    folder = run / "eval" / "data-synth-test-48x48-0.3-last-area-skip-per65536-legacy-overlap"
    result = json.loads((folder / "result.json").read_text())
    figures, summary = result["scorers"]["sgem_unet"]["figures"], json.loads((run / "metrics.json").read_text())
    assert set(figures) == {"legacy", "overlap"} and figures["legacy"]["pixels"] == 4 * 48 * 48 and figures["legacy"]["nIoU"] == figures["legacy"]["nIoU_skip"]
    assert figures["legacy"]["Fa"] == figures["legacy"]["fa_pixels"] / (4 * 65536)
    assert "\nexact" not in out and "Fa per 65536 pixels an image" in out and "48x48 size (masks area), threshold 0.3" in out
    entry = summary["data/synth/test/legacy/48x48/0.3/last/area/skip/per65536"]
    assert entry["figures"]["sgem_unet"] == figures["legacy"] and (entry["protocol"], entry["eval_size"], entry["threshold"]) == ("legacy", "48x48", 0.3)


def test_other_readings_have_folders_of_their_own(run, data, capsys):
    """The rules that the name once lacked: the second evaluation was refused, and would have taken the first one's place in metrics.json."""
    for full_scale in ((), ("--full-scale", 255)):
        evaluate(capsys, run, "--no-plots", "--bootstrap", 0, *full_scale)
    assert {p.name for p in (run / "eval").iterdir()} == {f"data-synth-test-native-0.5-best{end}" for end in ("", "-scale255")}
    assert {"data/synth/test/exact/native/0.5/best", "data/synth/test/exact/native/0.5/best/scale255"} <= set(json.loads((run / "metrics.json").read_text()))


def test_maxnorm(run, capsys):
    evaluate(capsys, run, "--maxnorm", "--no-plots", "--bootstrap", 0)
    folder = run / "eval" / "data-synth-test-native-0.5-best-maxnorm"
    with open(folder / "images.csv", newline="") as file:
        assert all(int(r["TP"]) + int(r["FP"]) > 0 for r in csv.DictReader(file))
    assert "overlap_maxnorm_Pd" in json.loads((folder / "result.json").read_text())["scorers"]["sgem_unet"]["figures"]["overlap"]


def test_masks_of_predict_give_the_figures_of_the_network(run, data, capsys):
    evaluate(capsys, run, "--no-plots", "--bootstrap", 0, "--out", run.parent / "network")
    assert cli.main(["predict", str(run), str(data / "images"), "--out", str(run.parent / "found")]) == 0
    args = ("--predictions", run.parent / "found" / "masks", "--data", data, "--no-plots", "--bootstrap", 0, "--out", run.parent / "masks")
    assert "files read as mask" in evaluate(capsys, *args)[0]
    figures = [list(json.loads((run.parent / n / "result.json").read_text())["scorers"].values())[0]["figures"] for n in ("network", "masks")]
    assert figures[0] == figures[1]


def test_json_alone_on_stdout(run, capsys):
    out, _ = evaluate(capsys, run, "--json", "--no-plots", "--bootstrap", 0)
    assert out == (run / "eval" / "data-synth-test-native-0.5-best" / "result.json").read_text() and json.loads(out)["images"] == 4


def test_out_leaves_the_run_as_it_is(run, capsys):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    evaluate(capsys, run, "--out", run.parent / "deep" / "out", "--no-plots", "--bootstrap", 0)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before and (run.parent / "deep" / "out" / "result.json").is_file()


def test_without_matplotlib_only_the_plots_are_missing(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    _, err = evaluate(capsys, run, "--bootstrap", 0)
    lines = [line for line in err.splitlines() if line.startswith("irstd eval: ")]
    assert lines == ['irstd eval: no plots: plot: matplotlib is not installed; run: pip install "irstd_ext[viz]"']
    assert set(written(run / "eval" / "data-synth-test-native-0.5-best")) == {n for n in FILES if not n.endswith(".png")}


def test_a_carved_part_says_so(run, data, capsys, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy" / "set")
    (copy / "synth" / "val.txt").unlink()
    out, _ = evaluate(capsys, run, "--data", copy, "--part", "val", "--no-plots", "--bootstrap", 0)
    note = json.loads((run / "eval" / "set-synth-val-native-0.5-best" / "result.json").read_text())["part_note"]
    assert "no val list" in note and "seed 0" in note and note in out


def test_images_of_the_training_list_are_counted(run, data, capsys):
    home = json.loads((run / "config.json").read_text())["data"]["root"]
    assert home == str(data)
    other = data / "other"
    other.mkdir()
    try:
        (other / "test.txt").write_text((data / "synth" / "train.txt").read_text())
        _, err = evaluate(capsys, run, "--split", "other", "--no-plots", "--bootstrap", 0)
    finally:
        shutil.rmtree(other)
    assert "warning: 12 of the 12 images are in the training lists of the run (split synth: 12 in train)" in err
    seen = {"train": "12 of the 12 images are in the training lists of the run (split synth: 12 in train)",
            "val": "4 of the 4 images are in the training lists of the run (split synth: 4 in val by which its epoch was selected)",
            "trainval": "16 of the 16 images are in the training lists of the run (split synth: 12 in train, 4 in val by which its epoch was selected)"}
    for part, words in seen.items():
        out, err = evaluate(capsys, run, "--part", part, "--no-plots", "--bootstrap", 0)
        notes = json.loads((run / "eval" / f"data-synth-{part}-native-0.5-best" / "result.json").read_text())["notes"]
        assert f"warning: {words}" in err and f"note: {words}" in out and any(note.startswith(words) for note in notes)
    out, err = evaluate(capsys, run, "--no-plots", "--bootstrap", 0)
    assert "training lists" not in out + err


def test_network_with_a_bad_answer_names_the_image(run, data, capsys, monkeypatch):
    monkeypatch.setattr("python_models.inference.network_scorer", lambda net, **_: lambda image: image[0] * float("nan"))
    name = open_dataset(data, "synth", "test").names[0]
    assert f"{name}.png: scores must be finite, got 4096 of 4096 that are not" in refused(capsys, run)
    assert not (run / "eval").exists()


def test_a_place_that_cannot_be_written_fails_before_the_work(run, capsys, monkeypatch):
    monkeypatch.setattr("python_models.evaluation.assess", lambda *_: pytest.fail("the work began"))
    (run / "eval").write_text("a file")
    assert "eval" in refused(capsys, run)
    (run / "eval").unlink()
    monkeypatch.setattr("pathlib.Path.mkdir", lambda self, *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied", str(self))))
    assert "Permission denied" in refused(capsys, run)
    out = run.parent / "out"  # the folder that was given is named, not the temporary one beside it
    assert refused(capsys, run, "--out", out) == f"irstd eval: out: {out} cannot be made ({run.parent}: Permission denied)"


def test_what_stands_in_the_folder(run, capsys):
    out = run.parent / "out"
    args = (run, "--out", out, "--no-plots", "--bootstrap", 0)
    evaluate(capsys, *args)
    evaluate(capsys, *args, "--bootstrap", 10)  # the same evaluation
    assert f"{out} holds another evaluation (threshold differ)" in refused(capsys, *args, "--threshold", 0.4)
    evaluate(capsys, *args, "--threshold", 0.4, "--overwrite")
    assert json.loads((out / "result.json").read_text())["threshold"] == 0.4
    (out / "notes.txt").write_text("mine")
    for more in ((), ("--overwrite",)):
        assert "holds files of something else (notes.txt)" in refused(capsys, *args, *more)
    assert "must be a folder, got a file" in refused(capsys, *args[:1], "--out", out / "notes.txt")


def test_a_failed_replacement_keeps_the_old_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    with replacing(folder) as new:
        (new / "x").write_text("1")
    with pytest.raises(ZeroDivisionError), replacing(folder) as new:
        (new / "x").write_text("2")
        raise ZeroDivisionError
    assert written(folder) == {"x": b"1"} and [p.name for p in folder.parent.iterdir()] == ["b"]
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "c" / "d"):
        raise ZeroDivisionError
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("args,words", [
    (["--eval-size", "0"], "eval_size must be >= 1, got 0"), (["--eval-size", "1000000"], "eval_size must be <= 8192, got 1000000"),
    (["--threshold", "1"], "threshold must lie in (0, 1)"),
    (["--bootstrap", "-1"], "bootstrap must be >= 0"),
    (["--bootstrap", "100000000000"], "bootstrap must be <= 1000000, got 100000000000"),
    (["--fixed-pixels", "-4"], "fixed_pixels must be >= 1"), (["--split", "none"], "none"),
    (["--data", "no/such"], "no/such"), (["--protocol", "exakt"], "exact"),
    (["--device", "cuda"], "cuda") if not torch.cuda.is_available() else (["--threads", "0"], "threads"),
])
def test_wrong_options(run, args, words, capsys):
    assert words in refused(capsys, run, *args)
    assert not (run / "eval").exists()


def test_masks_by_other_rules(tmp_path, capsys):
    mask = np.zeros((20, 20), bool)
    mask[4:6, 4:6] = mask[12:14, 12:14] = True
    data = write_set(tmp_path / "set", [mask])
    grey = (mask * 255).astype(np.uint8)
    grey[4:6, 4:6] = 254
    grey[17, 2] = 3
    Image.fromarray(grey).save(data / "masks" / "a0.png")
    folder = write_predictions(tmp_path / "p", [mask])
    found = {}
    for rule in ("binarise", "full", "nonzero"):
        evaluate(capsys, "--predictions", folder, "--data", data, "--masks", rule, "--no-plots", "--bootstrap", 0, "--out", tmp_path / rule)
        result = json.loads((tmp_path / rule / "result.json").read_text())
        assert result["scorers"]["p"]["figures"]["exact"]["gt_rule"] == result["gt_rule"]
        found[rule] = (result["gt_rule"], *(result["scorers"]["p"]["figures"]["exact"][k] for k in ("TP", "FP", "FN")))
    assert found == {"binarise": ("half", 8, 0, 0), "full": ("full", 4, 4, 0), "nonzero": ("nonzero", 8, 0, 1)}
    assert "a0" in refused(capsys, "--predictions", folder, "--data", data, "--masks", "strict")


def test_masks_of_a_real_set_judge_themselves_perfect(tmp_path, capsys):
    root = os.environ.get("IRSTD_DATA")
    if not root:
        pytest.skip("IRSTD_DATA names no folder of real data sets")
    data = os.path.join(root, "NUAA-SIRST")
    args = ("--predictions", os.path.join(data, "masks"), "--suffix", "_pixels0", "--data", data, "--split", "idx_427", "--no-plots", "--bootstrap", 0)
    assert "1 of 86 files differ in size from their image: Misc_111_pixels0.png is 592 x 400, its image 325 x 220" in refused(capsys, *args)
    out, err = evaluate(capsys, *args, "--resize-predictions", "nearest", "--out", tmp_path / "out")
    assert "109/109" in out and "341 files of" in err
    figures = json.loads((tmp_path / "out" / "result.json").read_text())["scorers"]["masks"]["figures"]
    assert all((f["n_gt"], f["Pd"], f["Fa"]) == (109, 1, 0) for f in figures.values()) and figures["exact"]["IoU"] > 0.999
