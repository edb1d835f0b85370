"""`irstd data check`: exit codes, where the table and JSON go, one line for what cannot be checked."""

import json
import os
import sys

import pytest
from data.check_set import add, make_clean

from python_models.cli import UsageError
from python_models.commands.data import parse, run
from python_models.data import DataError


@pytest.fixture
def clean(tmp_path):
    return make_clean(tmp_path / "set")


def call(*words):
    return run(parse(["check", *map(str, words)]))


def test_exit_codes(clean, capsys):
    assert call(clean) == 0 and call(clean, "--strict") == 0
    (clean / "images" / "lone.png").write_bytes((clean / "images" / "a.png").read_bytes())
    assert call(clean) == 0 and call(clean, "--strict") == 1
    add(clean, "test", "ghost")
    assert call(clean) == 1 and call(clean, "--split", "half") == 1
    out, err = capsys.readouterr()
    assert "error    missing-image    half: test (test.txt): no image for 1 of 4 names: ghost" in out
    assert "missing-image" not in err and "data check" in err


def test_json_to_a_file_and_to_stdout(clean, capsys, tmp_path):
    assert call(clean, "--json", tmp_path / "out.json") == 0
    table = capsys.readouterr().out
    assert table.rstrip().endswith("nothing found")
    assert call(clean, "--json", "-", "--threads", 2) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["findings"] == [] and text == (tmp_path / "out.json").read_text()


@pytest.mark.parametrize("words, rule", [
    (("--split", "no"), "split must be one of: half; got 'no'"), (("--threads", 0), "threads must be >= 1, got 0"),
])
def test_what_cannot_be_checked(clean, words, rule):
    with pytest.raises(DataError, match=rule):
        call(clean, *words)
    with pytest.raises(DataError, match="no such folder"):
        call(clean / "nothing")


@pytest.mark.parametrize("words, rule", [(["look"], "action must be one of check, synth, got 'look'"), (["check"], "DIR"), (["check", "x", "--nope"], "nope")])
def test_wrong_command_lines_are_one_line(words, rule):
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert rule in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("words, code, text", [
    ([], 2, "check DIR"), (["-h"], 0, "synth OUT"), (["check", "--help"], 0, "--strict"), (["synth", "--help"], 0, "--read-noise"),
])
def test_help(words, code, text, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(words)
    assert (stop.value.code or 0) == code and text in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_is_shown(clean, capsysbinary):
    (clean / "images" / "lone.png").write_bytes((clean / "images" / "a.png").read_bytes())
    (clean / "images" / "lone.png").rename(clean / "images" / os.fsdecode(b"\xe4.png"))
    assert call(clean) == 0
    assert b"1 image in no list: \\udce4\n" in capsysbinary.readouterr().out
