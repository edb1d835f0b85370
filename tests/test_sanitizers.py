"""The CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer, and with narrower vectors: copies of the package around other builds run the op tests."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
CXX = shutil.which("g++")
FLAGS = ["-std=c++20", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-Wno-psabi", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
         "-DTORCH_TARGET_VERSION=0x020b000000000000", "-DTORCH_STABLE_ONLY"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
CPUINFO = Path("/proc/cpuinfo")
FLAGS_OF_CPU = CPUINFO.read_text() if CPUINFO.exists() else ""
OWN = 64 if "avx512vl" in FLAGS_OF_CPU and "avx512bw" in FLAGS_OF_CPU and "avx512dq" in FLAGS_OF_CPU else 32 if "avx2" in FLAGS_OF_CPU and "fma" in FLAGS_OF_CPU else 16  # bytes of a vector
WIDTHS = [width for width in (16, 32) if width < OWN] or [16]  # of vectors that other machines have and this one does not use


def runtime(name: str) -> str:
    return subprocess.run([CXX, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


def build(sources: list[Path], output: Path, *flags: str) -> None:
    torch_root = Path(torch.__file__).parent
    objects = [output.with_name(f"{i}.o") for i in range(len(sources))]
    compilers = [subprocess.Popen([CXX, *FLAGS, *flags, f"-I{ROOT / 'csrc'}", "-isystem", str(torch_root / "include"), "-c", str(s), "-o", str(o)]) for s, o in zip(sources, objects)]
    assert not any([c.wait() for c in compilers])
    subprocess.run([CXX, "-shared", *FLAGS, *flags, *map(str, objects), "-o", str(output), f"-L{torch_root / 'lib'}", "-ltorch_cpu"], check=True)


def sanitized(arguments: list[str], path: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(path), "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')}",
           "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1", "OMP_NUM_THREADS": "2"}
    return subprocess.run([sys.executable, *arguments], env=env, cwd=ROOT / "tests", capture_output=True, text=True)


@pytest.mark.skipif(CXX is None or not Path(runtime("libasan.so")).is_absolute(), reason="needs g++ with its sanitizer libraries")
class TestSanitizers:
    def test_op_suite_is_clean(self, tmp_path):
        shutil.copytree(ROOT / "irstd_ext", tmp_path / "irstd_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        build(sorted((ROOT / "csrc" / "ops").glob("*/cpu.cpp")), tmp_path / "irstd_ext" / "libirstd_ext.so", *SANITIZE, f"-DIRSTD_SIMD_BYTES={OWN}", f"-DIRSTD_SIMD_LEAST={OWN}")
        where = sanitized(["-c", "import irstd_ext; print(irstd_ext.__file__)"], tmp_path)
        assert str(tmp_path) in where.stdout, where.stderr
        wanted = "(test_accuracy and cpu and not cuda) or extreme or layouts or broadcast or invalid or written"
        run = sanitized(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--capture=sys", "ops", "-k", wanted], tmp_path)
        assert run.returncode == 0 and " passed" in run.stdout, run.stdout[-3000:] + run.stderr[-3000:]

    def test_an_overrun_is_noticed(self, tmp_path):
        """The same set-up must fail on a kernel that writes one element past its output."""
        source = tmp_path / "overrun.cpp"
        source.write_text("""
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
torch::stable::Tensor overrun(const torch::stable::Tensor& x) {
  auto y = torch::stable::new_empty(x, {x.numel()});
  float* p = static_cast<float*>(y.mutable_data_ptr());
  for (int64_t i = 0; i <= x.numel(); ++i) p[i] = 0;
  return y;
}
STABLE_TORCH_LIBRARY_FRAGMENT(irstd_planted, m) { m.def("overrun(Tensor x) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(irstd_planted, CPU, m) { m.impl("overrun", TORCH_BOX(&overrun)); }
""")
        build([source], tmp_path / "libplanted.so", *SANITIZE)
        code = f"import torch; torch.ops.load_library({str(tmp_path / 'libplanted.so')!r}); torch.ops.irstd_planted.overrun(torch.ones(1000))"
        run = sanitized(["-c", code], tmp_path)
        assert run.returncode != 0 and "heap-buffer-overflow" in run.stderr


@pytest.mark.skipif(CXX is None, reason="needs g++")
@pytest.mark.parametrize("width", WIDTHS)
def test_kernels_with_narrower_vectors(tmp_path, width):
    shutil.copytree(ROOT / "irstd_ext", tmp_path / "irstd_ext", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    build(sorted((ROOT / "csrc" / "ops").glob("*/cpu.cpp")), tmp_path / "irstd_ext" / "libirstd_ext.so", f"-DIRSTD_SIMD_BYTES={width}", f"-DIRSTD_SIMD_LEAST={width}")
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "ops", "-k", "(test_accuracy and cpu and not cuda) or extreme or layouts"],
                         env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=ROOT / "tests", capture_output=True, text=True)
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout[-3000:] + run.stderr[-3000:]
