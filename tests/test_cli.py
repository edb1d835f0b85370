"""The command line: help, one-line errors with their exit codes, and each command once."""
import json
import os
import shlex
import subprocess
import sys

import pytest

from python_models import cli
from python_models.data import SynthConfig, write_synthetic

COMMANDS = ("demo", "train", "convert", "eval", "predict", "report", "data", "bench", "doctor")
NET = ["--option", "input_size=32", "widths=[4, 4, 8, 8, 8]"]


@pytest.fixture(autouse=True)
def always_one_thread(one_thread):
    """For every test here."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("set") / "data", 20, size=64, seed=3, config=SynthConfig(empty=0.0), parts=(0.6, 0.2, 0.2), raw=False)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run made by the command itself."""
    pytest.importorskip("pytorch_lightning", reason="the extra `train` is not installed")
    out = tmp_path_factory.mktemp("runs") / "a"
    assert cli.main(["train", "sgem_unet", "--data", str(data), "--out", str(out), "--preset", "tiny", *NET, "--epochs", "1", "--device", "cpu",
                     "--no-progress"]) == 0
    return out


def fails(capsys, args, code=2):
    """The one line of a failing command."""
    capsys.readouterr()
    assert cli.main([str(a) for a in args]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith(f"irstd {args[0]}: ") and "Traceback" not in err
    return err


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS) and tuple(cli.COMMANDS) == COMMANDS


ACTIONS = (*((c,) for c in COMMANDS if c != "data"), ("data", "check"), ("data", "synth"))


@pytest.mark.parametrize("words", ACTIONS, ids=" ".join)
def test_every_command_has_examples_that_parse(capsys, words):
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "Examples:")
    examples = [shlex.split(line) for line in lines[start + 1 :] if line.strip().startswith("irstd ")]
    assert examples
    module = __import__(f"python_models.commands.{words[0]}", fromlist=["Config"])
    for example in examples:
        assert tuple(example[1 : 1 + len(words)]) == words
        if hasattr(module, "Config"):
            cli.parse(module.Config, example[2:], f"irstd {words[0]}")
        else:
            module.parse(example[2:])


def test_help_is_quick_to_import():
    code = "import sys, python_models.cli; sys.exit(any(m in sys.modules for m in ('torch', 'pytorch_lightning', 'matplotlib', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}).returncode in (0,)


@pytest.mark.parametrize("args,words", [
    (["tarin"], "command must be one of demo, train, convert, eval, predict, report, data, bench, doctor, got 'tarin'"),
    (["train", "sgem_unet", "--data", "d", "--epoch", "3"], "Unrecognized options: --epoch"),
    (["train", "sgem_unet"], "Missing from irstd train: --data"),
    (["train", "sgem_unet", "--data", "d", "--epochs", "many"], "Error parsing --epochs"),
    (["train", "sgem_unet", "--data", "d", "--recipe", "none"], "recipe: must be a .toml file or one of paper"),
    (["train", "sgem_unet", "--data", "d", "--recipe", "none.toml"], "none.toml does not exist"),
    (["train", "sgem_unet", "--data", "no/such/folder"], "no/such/folder"),
    (["eval", "no/such/run"], "no/such/run does not exist"),
    (["predict", "no/such/run", "x.png"], "x.png"),
])
def test_errors_are_one_line_with_exit_code_2(capsys, args, words):
    assert words in fails(capsys, args)


def test_wrong_data_names_folder_split_and_model(capsys, data, tmp_path):
    out = ["--out", tmp_path / "run"]
    assert "split must be one of: synth; got 'idx'" in fails(capsys, ["train", "sgem_unet", "--data", data, "--split", "idx", *out])
    assert "no network 'unet'; there are" in fails(capsys, ["train", "unet", "--data", data, *out])
    assert "no preset 'huge'" in fails(capsys, ["train", "sgem_unet", "--data", data, "--preset", "huge", *out])
    assert str(tmp_path) in fails(capsys, ["train", "sgem_unet", "--data", tmp_path, *out])
    assert not (tmp_path / "run").exists()


def test_text_named_png_in_a_training_list(capsys, data, tmp_path):
    folder = tmp_path / "set"
    for path in data.rglob("*.*"):
        copy = folder / path.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    name = (data / "synth" / "train.txt").read_text().split()[0]
    (folder / "images" / f"{name}.png").write_text("no image")
    assert f"{name}.png" in fails(capsys, ["train", "sgem_unet", "--data", folder, "--out", tmp_path / "run", *NET, "--no-progress"])


def test_an_existing_run_is_refused(capsys, data, run):
    before = (run / "model.safetensors").read_bytes()
    assert f"{run} holds a run; give another --out, or --overwrite, or continue a training with --resume" in fails(capsys, ["train", "sgem_unet", "--data", data, "--out", run, *NET])
    assert (run / "model.safetensors").read_bytes() == before


def test_a_missing_extra_names_the_command_that_installs_it(capsys, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    line = fails(capsys, ["train", "sgem_unet", "--data", data, "--out", tmp_path / "run", *NET])
    assert 'pip install "irstd_ext[train]"' in line and not (tmp_path / "run").exists()


def test_unforeseen_errors_are_one_line_or_a_traceback_on_request(capsys, monkeypatch):
    from python_models.commands import doctor

    monkeypatch.setattr(doctor, "run", lambda _: {}["key"])
    monkeypatch.delenv("IRSTD_TRACEBACK", raising=False)
    assert "unexpected KeyError: 'key'; IRSTD_TRACEBACK=1" in fails(capsys, ["doctor"], code=1)
    with pytest.raises(KeyError):
        cli.main(["doctor", "--traceback"])
    monkeypatch.setenv("IRSTD_TRACEBACK", "1")
    with pytest.raises(KeyError):
        cli.main(["doctor"])


def test_recipe_then_command_line(tmp_path):
    from python_models.commands.train import parse

    recipe = tmp_path / "r.toml"
    recipe.write_text('epochs = 7\nlr = 0.5\nscale = [0.7, 1.5]\nflip = false\n[options]\nattention = "linear"\n')
    args = ["sgem_unet", "--data", "d", "--recipe", str(recipe)]
    config, options = (got := parse([*args, "--epochs", "3"])).config, got.options
    assert (config.epochs, config.lr, config.scale, config.flip, config.model) == (3, 0.5, (0.7, 1.5), False, "sgem_unet")
    assert options == {"attention": "linear"}
    recipe.write_text('epochs = "seven"\n')
    with pytest.raises(cli.UsageError, match=r"recipe: .*r\.toml: Error parsing --epochs"):
        parse(args)


def test_shipped_recipes_are_valid(tmp_path):
    from python_models import list_models, list_recipes
    from python_models.commands.train import parse

    for model in list_models():
        for name in list_recipes(model):
            assert parse([model, "--data", "d", "--recipe", name]).config.recipe == name


def test_eval_prints_the_table_and_stores_the_figures(capsys, run, data):
    assert cli.main(["eval", str(run), "--baseline", "tophat", "--protocol", "exact", "legacy", "--eval-size", "48"]) == 0
    text = capsys.readouterr().out
    assert text.count("\ntop-hat ") == 6 and text.count("\nsgem_unet ") == 6 and "\ntop-hat: " in text
    stored = json.loads((run / "metrics.json").read_text())
    key = "data/synth/test/exact/48x48/0.5/best"
    from python_models.data import open_dataset

    entry = stored[key]
    assert entry["split_hash"] == open_dataset(data, "synth", "test").split_hash and entry["images"] == 4
    assert (entry["protocol"], entry["eval_size"], entry["threshold"]) == ("exact", "48x48", 0.5)
    assert set(entry["figures"]) == {"sgem_unet", "top-hat"} and entry["figures"]["sgem_unet"]["pixels"] == 4 * 48 * 48
    assert "training" in stored and f"{key.replace('exact', 'legacy')}" in stored


def test_predict_folder_file_and_exit_codes(capsys, run, data, tmp_path):
    out = tmp_path / "found"
    assert cli.main(["predict", str(run), str(data / "images"), "--out", str(out)]) == 0
    assert "of 20 images" in capsys.readouterr().out and len(list((out / "masks").iterdir())) == 20
    image = next(iter(sorted((data / "images").iterdir())))
    assert cli.main(["predict", str(run), str(image)]) == 0
    assert (run / "predictions" / "masks" / image.name).read_bytes() == (out / "masks" / image.name).read_bytes()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes(image.read_bytes())
    (mixed / "b.png").write_text("no image")
    assert cli.main(["predict", str(run), str(mixed)]) == 2 and "--overwrite" in capsys.readouterr().err
    assert cli.main(["predict", str(run), str(mixed), "--overwrite"]) == 1
    assert "b.png" in capsys.readouterr().err
    assert cli.main(["predict", str(run), str(mixed / "b.png"), "--overwrite"]) == 2


def test_predict_refuses_an_empty_folder(capsys, run, tmp_path):
    assert str(tmp_path) in fails(capsys, ["predict", run, tmp_path])


def test_bench_prints_and_stores_its_rows(capsys, tmp_path, monkeypatch):
    from irstd_ext import bench

    row = dict(op="f", case="8x8", mode="forward", ext_ms=1.0, reference_ms=2.5, speedup=2.5, error_ext=1e-7, error_reference=2e-7)
    monkeypatch.setattr(bench, "quick", lambda: [row])
    assert cli.main(["bench", "--json", str(tmp_path / "b.json"), "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert "2.50x" in text and "1.0e-07" in text
    assert json.loads((tmp_path / "b.json").read_text())["rows"] == [row]


def test_doctor_says_what_loaded_and_what_is_missing(capsys, monkeypatch):
    from irstd_ext import _load

    monkeypatch.setattr(_load, "report", lambda: [dict(name="lib", path="", loaded=False, reason="not built")])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "not built" in text and 'pip install "irstd_ext[viz]"' in text and "sgem_unet" in text
    monkeypatch.undo()
    assert cli.main(["doctor"]) == (0 if _load.report()[0]["loaded"] else 1)


def test_demo_from_images_to_pictures(capsys, tmp_path, monkeypatch):
    pytest.importorskip("pytorch_lightning", reason="the extra `train` is not installed")
    pytest.importorskip("matplotlib", reason="the extra `viz` is not installed")
    from python_models.commands import demo

    monkeypatch.setattr(demo, "SIZE", 32)
    monkeypatch.setattr(demo, "IMAGES", 20)
    monkeypatch.setattr(demo, "_bench", lambda: print("bench table"))
    out = tmp_path / "demo"
    assert cli.main(["demo", "--out", str(out), "--minutes", "0.02"]) == 0
    text = capsys.readouterr().out
    assert "top-hat" in text and "bench table" in text and "IoU %" in text
    assert {"predictions.png", "pd_fa.png", "metrics.json", "best.safetensors", "config.json", "log.csv"} <= {p.name for p in out.iterdir()}
    figures = json.loads((out / "metrics.json").read_text())["demo"]["figures"]
    assert set(figures) == {"sgem_unet", "top-hat"} and figures["top-hat"]["n_images"] == 4
    assert "holds a run" in fails(capsys, ["demo", "--out", out])
    assert cli.main(["demo", "--out", str(out), "--epochs", "1", "--overwrite", "--no-bench"]) == 0


def test_the_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "python_models.cli", "eval", "no/such/run"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "irstd eval: run: folder no/such/run does not exist\n" and done.stdout == ""
