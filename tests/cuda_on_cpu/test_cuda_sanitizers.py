"""The CUDA kernels and bindings under AddressSanitizer and UndefinedBehaviorSanitizer, on the CPU: no access outside a tensor, a workspace or a block's
shared memory."""
import os
import subprocess
import sys
from pathlib import Path

import irstd_ext
import pytest

from cuda_on_cpu.build import COMPILER, CSRC, HERE, SANITIZE, compiler, library

SIZES = {
    "bilinear_attention": ["B=2, C=3, L=5, M=7, E=9", "B=1, C=2, L=33, M=33, E=2", "B=1, C=1, L=66, M=3, E=67", "B=1, C=2, L=0, M=70, E=3"],
    "linear_cross_attention": ["B=2, h=3, N=5, M=11, d=7, e=9", "B=1, h=1, N=65, M=130, d=3, e=2", "B=1, h=1, N=2, M=3, d=65, e=33"],
    "pixel_difference": ["B=2, D=3, H=5, W=9, n=2", "B=1, D=33, H=9, W=3, n=2, channels_last=True", "B=1, D=2, H=4, W=3, n=3", "B=1, D=0, H=4, W=3, n=2"],
    "pixel_difference_scan": ["B=1, D=4, H=5, W=14, N=4, n=2, channels_last=True", "B=1, D=33, H=3, W=4, N=8, n=2", "B=2, D=2, H=5, W=3, N=18, n=None", "B=1, D=0, H=2, W=3, N=2, n=2"],
    "wavelet_diffusion": ["B=2, C=3, H=5, W=9, steps=2", "B=1, C=9, H=9, W=67, steps=3, channels_last=True", "B=1, C=2, H=6, W=5, steps=5, all_high=True",
                          "B=1, C=2, H=1, W=5, steps=1", "B=1, C=0, H=4, W=3, steps=2"],
}
RUN = """
import torch
from irstd_ext.testing import load_spec
from ops.backends import BACKENDS
from ops.suite import layouts
b, spec = BACKENDS["cuda_on_cpu"], load_spec({op!r})
for sizes in ({sizes}):
    for dtype in (torch.float32, torch.float16, torch.float64):
        drawn = spec.args(sizes, dtype)
        for args in (drawn, [layouts(a)["strided"] if isinstance(a, torch.Tensor) and a.dim() > 2 else a for a in drawn]):
            out = b.forward(spec.op, *args)
            spec.gradients(lambda *a: b.backward(spec.op, *a), args, torch.randn_like(out))
print("clean")
"""


def runtime(name: str) -> str:
    return subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip() if compiler() else ""


pytestmark = pytest.mark.skipif(not Path(runtime("libasan.so")).is_absolute(), reason="needs g++ with its sanitizer libraries")


def sanitized(code: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}", "CUDA_ON_CPU_SANITIZE": "1", "OMP_NUM_THREADS": "1",
           "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0:detect_stack_use_after_return=0"}
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=HERE.parent, capture_output=True, text=True)


@pytest.mark.parametrize("op", list(SIZES))
def test_kernels_and_bindings_are_clean(op):
    library(op, sanitize=True)  # compiled outside the instrumented process
    done = sanitized(RUN.format(op=op, sizes=", ".join(f"dict({s})" for s in SIZES[op]) + ","))
    assert done.returncode == 0 and done.stdout == "clean\n", done.stderr[-3000:]


@pytest.mark.parametrize("index, message", [(64, "use-after-poison"), (10**4, "heap-buffer-overflow")], ids=["shared memory", "global memory"])
def test_an_access_outside_is_noticed(index, message, tmp_path):
    source = tmp_path / "outside.cu"
    source.write_text("""
#include "common/launch.h"
__global__ void outside(float* to, int index) {
  IRSTD_DYN_SHARED(float, shared);
  shared[index == 64 ? threadIdx.x + 1 : threadIdx.x] = 1;
  if (threadIdx.x == 0 && index != 64) to[index] = shared[0];
}
IRSTD_EXPORT void run(float* to, int index) { IRSTD_LAUNCH(outside, 1, 64, 256, nullptr, to, index); }
""")
    subprocess.run([COMPILER, "-x", "c++", "-std=c++17", "-O1", "-fPIC", "-shared", *SANITIZE, f"-I{HERE}", f"-I{CSRC}", "-include", "cuda_on_cpu.h", str(source),
                    "-o", str(tmp_path / "outside.so")], check=True)
    done = sanitized(f"import ctypes, torch; t = torch.zeros(10**4); ctypes.CDLL({str(tmp_path / 'outside.so')!r}).run(ctypes.c_void_p(t.data_ptr()), {index})")
    assert done.returncode != 0 and message in done.stderr


def test_no_op_is_left_out():
    assert sorted(SIZES) == sorted(irstd_ext.ops.__all__)
