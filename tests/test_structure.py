"""The house rules that a machine can check: one stem per op everywhere, dependencies one way, small files, examples that run."""
import ast
import doctest
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import irstd_ext
import pytest
from irstd_ext.__main__ import FILES, main
from irstd_ext.testing import all_specs

ROOT = Path(__file__).parents[1]
OPS = sorted(p.name for p in (ROOT / "csrc" / "ops").iterdir() if p.is_dir())
SOURCES = [p for folder in ("csrc", "irstd_ext", "python_models", "benchmarks", "tests") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".h", ".cpp", ".cu")]


def test_every_op_is_listed():
    assert OPS == sorted(irstd_ext.ops.__all__) == sorted(n for n in irstd_ext.reference.__all__) == sorted(all_specs())


@pytest.mark.parametrize("op", OPS)
def test_one_stem_in_every_folder(op):
    missing = [pattern.format(op) for _, pattern in FILES if not (ROOT / pattern.format(op)).exists()]
    assert not missing


@pytest.mark.parametrize("op", OPS)
def test_reference_has_the_signature_of_the_op(op):
    ext, reference = inspect.signature(getattr(irstd_ext, op)), inspect.signature(getattr(irstd_ext.reference, op))
    assert str(ext) == str(reference)


@pytest.mark.parametrize("op", OPS)
def test_docstring_has_a_formula_and_an_example_that_runs(op):
    function = getattr(irstd_ext, op)
    assert ".. math::" in function.__doc__ and "Errors:" in function.__doc__
    module = sys.modules[f"irstd_ext.ops.{op}"]
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("op", OPS)
def test_one_command_describes_an_op(op, capsys):
    assert main([op]) == 0
    text = capsys.readouterr().out
    assert f"csrc/ops/{op}/math.h" in text and f"irstd_ext::{op}(" in text and re.search(rf"Autograd +{op}", text)


def test_unknown_op_is_one_line(capsys):
    assert main(["nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def test_dependencies_point_one_way():
    for path in (ROOT / "irstd_ext").rglob("*.py"):
        assert not any(n.split(".")[0] in ("python_models", "tests", "benchmarks") for n in imports(path)), path
    for path in (ROOT / "irstd_ext" / "reference").glob("*.py"):
        assert path.name == "__init__.py" or all(n.split(".")[0] in ("torch", "typing", "math") or n.startswith("._") for n in imports(path)), path
    for path in (ROOT / "csrc" / "targets").iterdir():
        assert "ops/" not in path.read_text() and "torch/" not in path.read_text(), path
    for path in (ROOT / "csrc" / "ops").rglob("*"):
        assert not path.is_file() or "targets/" not in path.read_text(), path
    for path in (ROOT / "csrc" / "ops").rglob("*.cu"):
        assert "torch/" not in path.read_text(), f"{path}: kernels include no torch header"


def test_files_stay_small():
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_import_is_quiet_and_light():
    code = "import sys, torch; before = set(sys.modules); import irstd_ext, python_models; print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    heavy = {"scipy", "matplotlib", "pytorch_lightning", "lightning", "torchmetrics", "tensorboard", "triton", "pytorch_optimizer"}
    assert not heavy & set(run.stdout.split())


def test_backends_have_the_same_operators():
    assert vars(irstd_ext.get_ops("ext")).keys() == vars(irstd_ext.get_ops("reference")).keys()
    with pytest.raises(ValueError, match="backend must be 'ext' or 'reference', got 'cuda'"):
        irstd_ext.get_ops("cuda")


@pytest.mark.parametrize("op", OPS)
def test_functions_are_reachable_by_their_three_names(op):
    import torch

    assert getattr(irstd_ext, op) is getattr(irstd_ext.ops, op)
    assert callable(getattr(torch.ops.irstd_ext, op)) and callable(getattr(import_module("irstd_ext.reference"), op))
