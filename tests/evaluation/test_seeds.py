"""`irstd eval` on the folder of a training from several seeds."""
import json
import shutil

import numpy as np
import pytest
from evaluation.sets import refused

from python_models import cli
from python_models.evaluation import seeds
from python_models.files import read_weights, write_weights
from python_models.runs import load_run


@pytest.fixture
def folder(trained, tmp_path):
    """Seeds 2 and 10, whose last layers differ."""
    for seed in (10, 2):
        run = shutil.copytree(trained, tmp_path / "seeds" / f"seed-{seed}")
        weights = read_weights(run / "best.safetensors")
        write_weights(run / "best.safetensors", {k: v * (1 + 0.02 * seed) if v.is_floating_point() else v for k, v in weights.items()})
    (tmp_path / "seeds" / "seeds.json").write_text("{}")
    return tmp_path / "seeds"


def test_every_seed_is_judged_and_their_spread_is_that_of_their_results(folder, capsys, monkeypatch):
    def scorer(net, **_):  # by brightness, so that the little training does not decide what the figures are
        limit = 0.5 + 0.2 * (sum(p.double().abs().sum().item() for p in net.parameters()) > middle)
        return lambda image: 30 * (image[0] - limit)

    sums = [sum(p.double().abs().sum().item() for p in load_run(folder / f"seed-{s}").parameters()) for s in (2, 10)]
    middle = sum(sums) / 2
    monkeypatch.setattr("python_models.inference.network_scorer", scorer)
    options = ["--no-plots", "--bootstrap", "0", "--protocol", "exact", "legacy"]
    assert cli.main(["eval", str(folder), *options]) == 0
    out = capsys.readouterr().out
    assert out.index("seed 2: ") < out.index("seed 10: ") < out.index("2 seeds, mean and standard deviation") and out.count("ms per image") == 2
    name = "data-synth-test-native-0.5-best-exact-legacy"
    summary = json.loads((folder / "eval-seeds.json").read_text())["evaluations"][name]
    results = [json.loads((folder / f"seed-{s}" / "eval" / name / "result.json").read_text()) for s in (2, 10)]
    assert summary["seeds"] == [2, 10] and summary["split_hash"] == results[0]["split_hash"] and list(summary["runs"]) == ["2", "10"]
    assert results[0]["weights_sha256"] != results[1]["weights_sha256"] == summary["runs"]["10"]["weights_sha256"]
    values = []
    for protocol in ("exact", "legacy"):
        for field in ("IoU", "nIoU", "Pd", "Fa"):
            both = [r["scorers"]["sgem_unet"]["figures"][protocol][field] for r in results]
            assert np.isclose(summary["mean"][protocol][field], np.mean(both), rtol=1e-12)
            assert np.isclose(summary["std"][protocol][field], np.std(both, ddof=1), rtol=1e-9, atol=1e-15)
            values.append(both)
    assert any(a != b for a, b in values)  # else a deviation of 0 would pass
    assert cli.main(["eval", str(folder), "--no-plots", "--bootstrap", "0", "--json", "--out", str(folder / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((folder / "out" / "eval-seeds.json").read_text())["evaluations"]["data-synth-test-native-0.5-best"]
    assert (folder / "out" / "seed-2" / "result.json").is_file() and len(json.loads((folder / "eval-seeds.json").read_text())["evaluations"]) == 1
    assert cli.main(["eval", str(folder), "--no-plots", "--bootstrap", "0"]) == 0
    assert set(json.loads((folder / "eval-seeds.json").read_text())["evaluations"]) == {name, "data-synth-test-native-0.5-best"}


def test_a_seed_without_weights_or_a_damaged_summary_fails_before_the_work(folder, capsys):
    (folder / "seed-10" / "best.safetensors").unlink()
    assert "seed-10/best.safetensors does not exist; the run has not finished an epoch yet" in refused(capsys, folder)
    (folder / "eval-seeds.json").write_text('{"format": 2}')
    assert "eval-seeds.json must be of format 1 with evaluations, got format 2" in refused(capsys, folder)
    assert not (folder / "seed-2" / "eval").exists()


def test_seeds_of_different_trainings_have_no_mean(folder, monkeypatch):
    monkeypatch.setattr(seeds, "about_run", lambda *_: None)
    made = {k: "x" for k in seeds.SHARED} | {"run": "r", "model": "net", "scorers": {"net": {"figures": {"exact": {"IoU": 0.5}}}}}
    found = seeds.judge_seeds({0: folder, 1: folder}, "best", lambda seed, _: made)
    assert found["mean"] == {"exact": {"IoU": 0.5}} and found["std"] == {"exact": {"IoU": 0.0}}
    with pytest.raises(ValueError, match="of one training, got different preset"):
        seeds.judge_seeds({0: folder, 1: folder}, "best", lambda seed, _: made | {"preset": str(seed)})


def test_an_undefined_figure_has_no_mean():
    one, two = ({"run": "r", "model": "net", "scorers": {"net": {"figures": {"exact": {"Pd": v, "Fa": 0.5}}}}} for v in (None, 0.5))
    found = seeds.over_seeds({0: one, 1: two})
    assert found["mean"] == {"exact": {"Pd": None, "Fa": 0.5}} and found["std"] == {"exact": {"Pd": None, "Fa": 0.0}}
    assert "nan" in seeds.seeds_tables(found)
    assert seeds.over_seeds({1: two})["std"] == {"exact": {"Pd": None, "Fa": None}}
