"""The documents: their Python runs, their tables are those of the committed results, their links lead somewhere, their commands exist."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [pytest.param(block, id=f"{page.name}-{i}") for page in PAGES for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block, tmp_path):
    run = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout


def test_generated_tables_are_current():
    run = subprocess.run([sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_commands_exist():
    known = set(re.findall(r"^  (\w+)  ", subprocess.run([sys.executable, "-m", "python_models.cli", "--help"], capture_output=True, text=True, cwd="/").stdout, re.M))
    assert known >= {"demo", "train", "eval", "predict", "bench", "doctor"}
    for page in PAGES:
        for command in re.findall(r"^irstd (\w+)", page.read_text(), re.M):
            assert command in known, f"{page.name}: irstd {command}"
