"""The CUDA library builds with plain nvcc and without a GPU, for every architecture, without warnings, and its kernels keep everything in registers."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
OPS = sorted(p.parent.name for p in (ROOT / "csrc" / "ops").glob("*/cuda.cu"))
NVCC = shutil.which("nvcc") or next((p for p in ("/usr/local/cuda/bin/nvcc",) if os.path.exists(p)), None)
pytestmark = pytest.mark.skipif(not (NVCC and shutil.which("cmake") and shutil.which("ninja")), reason="needs nvcc, cmake and ninja")
# What the library takes of libtorch_cuda.so; all of it is in torch 2.11.
CUDA_SYMBOLS = {"aoti_torch_get_current_cuda_stream", "torch_c10_cuda_check_msg", "torch_c10_cuda_free_error_msg"}


def kernels(log: str) -> dict[tuple[str, str], tuple[int, int]]:
    """{(kernel, architecture): (bytes of stack, bytes spilled)} of what `ptxas -v` printed."""
    pattern = r"Compiling entry function '(\S+)' for '(\S+)'\s+ptxas info\s+: Function properties for \1\s+(\d+) bytes stack frame, (\d+) bytes spill stores"
    return {(m[1], m[2]): (int(m[3]), int(m[4])) for m in re.finditer(pattern, log)}


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> tuple[Path, str]:
    import pybind11

    folder = tmp_path_factory.mktemp("cuda")
    options = [f"-DIRSTD_TORCH_ROOT={Path(torch.__file__).parent}", "-DIRSTD_CUDA=1", f"-DCMAKE_CUDA_COMPILER={NVCC}", "-DCMAKE_CUDA_FLAGS=-Xptxas=-v",
               f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", "-DCMAKE_BUILD_TYPE=Release"]
    done = subprocess.run(["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", str(folder), "--target", "irstd_ext_cuda"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    return folder / "libirstd_ext_cuda.so", done.stdout + done.stderr


def test_every_kernel_is_there_for_every_architecture_without_stack_or_warnings(build):
    found = kernels(build[1])
    assert {architecture for _, architecture in found} == {"sm_80", "sm_90", "sm_100"}
    assert all(any(op in kernel for kernel, _ in found) for op in OPS)
    assert not {name: use for name, use in found.items() if use != (0, 0)}
    assert not re.search(r"warning", build[1], re.IGNORECASE)


def test_a_kernel_with_local_memory_is_noticed(tmp_path):
    source = tmp_path / "local.cu"
    source.write_text("__global__ void local(float* to, int n) { float x[64]; for (int i = 0; i < n; ++i) x[i % 64] = to[i]; to[n] = x[n % 64]; }")
    done = subprocess.run([NVCC, "-arch=sm_90", "-Xptxas=-v", "-c", str(source), "-o", str(tmp_path / "local.o")], capture_output=True, text=True, check=True)
    ((_, (stack, _)),) = kernels(done.stdout + done.stderr).items()
    assert stack >= 256


def test_it_needs_both_torch_libraries_and_no_cuda_runtime(build):
    needed = re.findall(r"NEEDED\).*\[(\S+)\]", subprocess.run(["readelf", "-d", str(build[0])], capture_output=True, text=True, check=True).stdout)
    assert {"libtorch_cuda.so", "libtorch_cpu.so"} <= set(needed) and not any("cudart" in n for n in needed)


def test_it_uses_only_the_stable_abi(build):
    lines = subprocess.run(["nm", "-D", "--undefined-only", str(build[0])], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = {line.split()[-1] for line in lines}
    assert CUDA_SYMBOLS == {s for s in symbols if "cuda" in s and not s.startswith("aoti_torch_device_type")}
    assert not [s for s in symbols if s.startswith(("Py", "_Py")) or re.match(r"_ZN?K?(2at|3c10|5torch|5caffe)", s)]


def test_it_loads_and_registers_the_ops_for_cuda(build, tmp_path):
    """On a torch without CUDA, beside a libtorch_cuda.so that has just the functions it takes from there."""
    if torch.version.cuda is not None:
        pytest.skip("this torch has a libtorch_cuda.so of its own")
    source, stand_in = tmp_path / "stand_in.cpp", tmp_path / "libtorch_cuda.so"
    source.write_text("".join(f'extern "C" int {s}() {{ return 1; }}\n' for s in sorted(CUDA_SYMBOLS)))
    subprocess.run(["g++", "-shared", "-fPIC", "-Wl,-soname,libtorch_cuda.so", str(source), "-o", str(stand_in)], check=True)
    code = f"""
import torch, irstd_ext
torch.ops.load_library({str(build[0])!r})
for op in {OPS!r}:
    for name in (op, op + "_backward"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key("irstd_ext::" + name, "CUDA"), name
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
