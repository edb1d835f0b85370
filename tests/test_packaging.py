"""What the built libraries depend on, what the source distribution holds, and what setup.py says where something is missing."""
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import irstd_ext
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = Path(irstd_ext.__file__).parent
LIBRARIES = [p for p in (PACKAGE / "libirstd_ext.so", PACKAGE / "libirstd_ext_cuda.so") if p.exists()]


def undefined(path: Path) -> set[str]:
    lines = subprocess.run(["nm", "-D", "--undefined-only", str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[-1] for line in lines}


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda p: p.name)
def test_op_libraries_use_only_the_stable_abi(path):
    symbols = undefined(path)
    assert any(s.startswith(("aoti_torch_", "torch_")) for s in symbols)
    assert not [s for s in symbols if s.startswith(("Py", "_Py"))]
    assert not [s for s in symbols if re.match(r"_ZN?K?(2at|3c10|5torch|5caffe)", s)]


def test_targets_module_does_not_know_torch():
    module = next(PACKAGE.glob("_targets*.so"))
    assert not [s for s in undefined(module) if "torch" in s or re.match(r"_ZN?K?(2at|3c10)", s)]
    needed = subprocess.run(["readelf", "-d", str(module)], capture_output=True, text=True).stdout
    assert "torch" not in needed


def test_the_stable_abi_check_notices_the_classic_abi():
    torch_library = Path(__import__("torch").__file__).parent / "lib" / "libtorch_cpu.so"
    assert [s for s in undefined(torch_library) if re.match(r"_ZN?K?(2at|3c10|5torch|5caffe)", s)]


def test_importing_does_not_switch_subnormals_off():
    import numpy as np

    assert np.float32(1e-38) * np.float32(0.01) > 0


def hook(code: str, **env) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", f"import setup; {code}"], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True)


def test_build_requirements_where_all_is_present():
    run = hook("print(setup.get_requires_for_build_wheel())")
    assert run.returncode == 0 and "torch" not in run.stdout.splitlines()[-1]


def test_torch_is_asked_for_where_there_is_none():
    run = hook("setup.target_torch = lambda: None; print(setup.get_requires_for_build_wheel())")
    assert "torch>=2.11" in run.stdout.splitlines()[-1]


def test_sdist_holds_all_that_builds_and_nothing_built(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "runs", "demo", "__pycache__", ".pytest_cache"))
    run = subprocess.run([sys.executable, "-c", f"import setup; print(setup.build_sdist({str(tmp_path)!r}))"], cwd=tree, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    names = tarfile.open(next(tmp_path.glob("*.tar.gz"))).getnames()
    held = {n.split("/", 1)[1] for n in names if "/" in n}
    for pattern in ("csrc/**/*.cpp", "csrc/**/*.h", "csrc/**/*.cu", "irstd_ext/**/*.py", "python_models/**/*.py", "python_models/**/*.toml", "python_models/**/*.j2", "python_models/**/*.css", "tests/**/*.py", "tests/**/*.npz", "benchmarks/*.py"):
        for p in ROOT.glob(pattern):
            assert str(p.relative_to(ROOT)) in held, p
    assert {"CMakeLists.txt", "setup.py", "pyproject.toml", "Makefile", "constraints.txt", "LICENSE", "README.md"} <= held
    assert not [n for n in held if n.endswith((".so", ".pyc"))]


def test_the_source_tree_without_libraries_says_so(tmp_path):
    shutil.copytree(ROOT / "irstd_ext", tmp_path / "irstd_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = "import irstd_ext; print(len(irstd_ext.ops.__all__)); irstd_ext.bilinear_attention()"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True)
    last = run.stderr.strip().splitlines()[-1]
    assert run.stdout.strip() != "" and "libirstd_ext.so is not built" in last and "pip install -e ." in last


def test_cuda_is_not_silently_replaced(tmp_path):
    import torch

    if torch.version.cuda is None:
        run = subprocess.run([sys.executable, "-c", "import irstd_ext"], env={**os.environ, "IRSTD_EXT_CUDA": "cuda"}, capture_output=True, text=True)
        assert run.returncode != 0 and "IRSTD_EXT_CUDA=cuda, but torch" in run.stderr.strip().splitlines()[-1]
    run = subprocess.run([sys.executable, "-c", "import irstd_ext"], env={**os.environ, "IRSTD_EXT_CUDA": "rocm"}, capture_output=True, text=True)
    assert "IRSTD_EXT_CUDA must be auto, cuda or triton, got 'rocm'" in run.stderr.strip().splitlines()[-1]
