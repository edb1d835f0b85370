"""A run that was really trained, really judged and reported: the three commands agree about their files."""
import json
import shutil

import pytest

from python_models import cli
from python_models.report import write_report
from report.parsed import Page
from small_run import data, trained  # noqa: F401


@pytest.fixture
def judged(trained, tmp_path):  # noqa: F811
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert cli.main(["eval", str(run), "--baseline", "tophat", "--backend", "reference", "--bootstrap", "50", "--no-plots"]) == 0
    return run


def test_train_eval_report(judged, tmp_path):
    write_report([judged], tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    result = json.loads(next(judged.glob("eval/*/result.json")).read_text())
    for row, scores in zip(page.values["Pixels, %"][1:], result["scorers"].values()):
        values = [scores["figures"]["exact"][k] for k in ("IoU", "nIoU", "F1", "precision", "recall")] + [scores["auc"]]
        assert row == [v for v in values if v is not None]
    assert len(page.all("svg")) >= 6 + 2 and result["split_hash"] in page.words and "no finished epoch" not in page.words
    targets = map(json.loads, next(judged.glob("eval/*/targets.jsonl")).read_text().splitlines())
    errors = [t for t in targets if t["scorer"] == "sgem_unet" and t["kind"] != "hit"]
    assert bool(errors) == bool(page.all("image")) and not [a for a in page.all("div") if a.get("class") == "gone"]
