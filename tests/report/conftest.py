"""A run folder of tests/report/make_run.py."""
from pathlib import Path

import pytest

from report.make_run import make_run

pytest.importorskip("matplotlib", reason="the extra `viz` is not installed")


@pytest.fixture(autouse=True)
def always_one_thread(one_thread):
    """For every test here."""


@pytest.fixture
def run(tmp_path) -> Path:
    """A trained and judged run."""
    return make_run(tmp_path / "a")


@pytest.fixture
def reported(run):
    """Writes the page of the run, or of the folders given, and returns it as read by a parser."""
    from python_models.report import write_report
    from report.parsed import Page

    def write(*folders: Path, **options) -> Page:
        out = run.parent / "out" / "page.html"
        write_report(folders or (run,), out, **options)
        return Page(out.read_text(encoding="utf-8"))

    return write
