"""What a report is given: hostile names, damaged files, wrong options. Nothing runs, and every error is one line."""
import json

import pytest

from python_models import cli
from python_models.report import write_report
from report.make_run import make_run
from report.parsed import Page

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>x</script>", "{{ 7 * 7 }}{% raw %}",
           "$\\frac{1}{$ _x_ \\bad", "'><svg/onload=x>", "javascript:alert(1)", "]]><!--", "a\ud800b\u202ec", "&lt;b&gt;"]


@pytest.fixture(autouse=True)
def command(monkeypatch):
    """The command, whether or not it is already listed."""
    monkeypatch.setitem(cli.COMMANDS, "report", "write a page")


def spoil(value, text):
    """``value`` with ``text`` in place of every text but those that the format fixes."""
    if isinstance(value, dict):
        return {k: v if k in ("kind", "name") and v in ("miss", "hit", "false_alarm") else spoil(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [spoil(v, text) for v in value]
    return text if isinstance(value, str) else value


def page_of(run, text) -> Page:
    """The page of ``run`` with ``text`` as every name, path and title."""
    for name in ("config.json", "eval/Small-synth-test/result.json"):
        value = spoil(json.loads((run / name).read_text()), text)
        if "scorers" in value:
            first, second = value["scorers"].values()
            value["scorers"] = {text: first, "top-hat": {**second, "figures": {text: second["figures"]["exact"]}}}
        else:
            value["train"][text], value["versions"][text] = text, "1"
        (run / name).write_text(json.dumps(value))
    path = run / "eval/Small-synth-test/targets.jsonl"
    path.write_text("".join(json.dumps(spoil(json.loads(line), text)) + "\n" for line in path.read_text().splitlines()))
    write_report([run], run.parent / f"{run.name}.html", title=text)
    return Page((run.parent / f"{run.name}.html").read_text(encoding="utf-8"))


def test_names_and_paths_are_text_and_nothing_else(tmp_path):
    text = " ".join(HOSTILE)
    hostile, plain = page_of(make_run(tmp_path / "a"), text), page_of(make_run(tmp_path / "b"), "plain")
    assert [(tag, set(attributes)) for tag, attributes in hostile.elements] == [(tag, set(attributes)) for tag, attributes in plain.elements]
    assert hostile.words.count(text.encode("utf-8", "backslashreplace").decode()) > 20
    assert not {"script", "img"} & {tag for tag, _ in hostile.elements}
    assert {a["href"][0] for _, a in hostile.elements if "href" in a} == {"#"}


def test_the_parser_sees_an_element_that_is_not_escaped():
    page = Page(f"<html><body><p>{HOSTILE[0]}{HOSTILE[1]}</p></body></html>")
    assert {"script", "img"} <= {tag for tag, _ in page.elements} and "onerror" in page.all("img")[0]


EVALUATION = "eval/Small-synth-test/"


@pytest.mark.parametrize("name,content,words", [
    ("config.json", "{", "config.json is not valid JSON"),
    ("config.json", '{"format": 1, "model": {"name": 3}}', "model must have a name, got 3"),
    ("config.json", '{"format": 1, "model": {"name": "a"}, "train": [1]}', "config.json: train must be an object, got '[1]'"),
    ("config.json", '{"format": 1, "model": [1]}', "config.json: model must be an object"),
    ("metrics.json", "[1]", "metrics.json must be an object, got '[1]'"),
    ("metrics.json", '{"training": {"selected": 3}}', "selected must be an object, got '3'"),
    ("metrics.json", '{"training": {"seconds": "long"}}', "seconds must be a number, got 'long'"),
    ("metrics.json", '{"training": {"seconds": 1' + 400 * "0" + "}}", "seconds must be a number, got '1000"),
    ("log.csv", "epoch,loss\n0,1\n1,high\n", "log.csv line 3 is not a row of numbers (could not convert string to float: 'high')"),
    ("log.csv", "epoch,loss\n0\n", "log.csv line 2 is not a row of numbers (2 cells expected, got 1)"),
    ("log.csv", "epoch,loss\n0,\x00\n", "log.csv line 2 is not a row of numbers"),
    (EVALUATION + "result.json", '{"format": 1, "scorers": {', "result.json is not valid JSON"),
    (EVALUATION + "result.json", "[" * 100_000, "result.json is not valid JSON"),
    (EVALUATION + "result.json", '{"format": 2}', "result.json must have format 1, got 2"),
    (EVALUATION + "result.json", '{"format": 1, "scorers": {}}', "scorers must hold a scorer, got none"),
    (EVALUATION + "result.json", '{"format": 1, "scorers": {"a": {"figures": {"exact": {"IoU": "high"}}}}}', "figures exact IoU must be a number, got 'high'"),
    (EVALUATION + "result.json", '{"format": 1, "scorers": {"a": {"intervals": {"exact": {"IoU": [1]}}}}}', "exact IoU must be [low, high], got '[1]'"),
    (EVALUATION + "result.json", '{"format": 1, "scorers": {"a": {"by_size": {"low": 1}}}}', "by_size must be a list"),
    (EVALUATION + "result.json", '{"format": 1, "scorers": {"a": {"pd_at_fa": {"low": 1}}}}', "pd_at_fa must have numbers as names, got 'low'"),
    (EVALUATION + "curve.csv", "scorer,threshold,Pd,Fa\nsgem_unet,0.5,1\n", "curve.csv line 2 is not a row of numbers"),
    (EVALUATION + "targets.jsonl", '{"kind": "hit", "box": [1, 2, 3, 4]}\n{"kind"\n', "targets.jsonl line 2 is not valid JSON"),
    (EVALUATION + "targets.jsonl", '{"kind": "odd"}\n', "targets.jsonl line 1: kind must be hit, miss or false_alarm, got 'odd'"),
    (EVALUATION + "targets.jsonl", '{"kind": "miss", "box": [1, 2, 3]}\n', "targets.jsonl line 1: box must be [x, y, width, height], got '[1, 2, 3]'"),
    (EVALUATION + "targets.jsonl", b"\xff\xfe\n", "targets.jsonl"),
])
def test_a_damaged_file_is_one_line_and_no_page(run, capsys, name, content, words):
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert words in fails(capsys, run) and not (run / "report.html").exists()


def fails(capsys, *args) -> str:
    """The one line of a failing command."""
    assert cli.main(["report", *map(str, args)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("irstd report: ") and len(err) < 400
    return err


def test_wrong_options_are_one_line(run, tmp_path, capsys):
    assert f"folder {tmp_path / 'no'} does not exist" in fails(capsys, tmp_path / "no")
    assert f"{tmp_path} is no run folder (config.json is missing)" in fails(capsys, tmp_path)
    assert "out must be given for 2 runs, got none" in fails(capsys, run, run)
    assert "gallery must be >= 0, got -1" in fails(capsys, run, "--gallery", "-1")
    before = (run / "config.json").read_bytes()
    assert f"out must end in .html, got {run / 'config.json'}" in fails(capsys, run, "--out", run / "config.json")
    assert (run / "config.json").read_bytes() == before


def test_the_command_writes_into_the_run_and_says_where(run, tmp_path, capsys):
    assert cli.main(["report", str(run)]) == 0
    assert f"written to {run / 'report.html'}: 0." in capsys.readouterr().out
    assert cli.main(["report", str(run), "--out", str(tmp_path / "new" / "page.html"), "--title", "Mine"]) == 0
    assert "<title>Mine</title>" in (tmp_path / "new" / "page.html").read_text()


def test_a_missing_matplotlib_names_the_command_that_installs_it(run, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert 'matplotlib is not installed; run: pip install "irstd_ext[viz]"' in fails(capsys, run)
