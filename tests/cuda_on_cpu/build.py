"""Compiles an op's cuda.cu and its torch binding cuda.cpp for the CPU, by g++ and cuda_on_cpu.h. The library defines irstd_cuda_on_cpu::<op> for CPU tensors."""
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
COMPILER = os.environ.get("CXX", "g++")
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1"]


def compiler() -> str:
    """Path of the C++ compiler; empty where there is none."""
    return shutil.which(COMPILER) or ""


def library(op: str, sanitize: bool = False) -> Path:
    """The shared library of `op`, compiled unless the same sources were compiled before."""
    torch_root = Path(torch.__file__).parent
    flags = ["-O0" if sanitize else "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi", *(SANITIZE if sanitize else [])]
    include = [f"-I{HERE}", f"-I{CSRC}", "-isystem", str(torch_root / "include")]
    digest = hashlib.sha256(" ".join([compiler(), torch.__version__, *flags, *include]).encode())
    for file in sorted([*CSRC.glob("common/*.h"), *CSRC.glob("ops/*/*.h"), *CSRC.glob(f"ops/{op}/*.c*"), *HERE.rglob("*.h")]):
        digest.update(file.read_bytes())
    path = Path(tempfile.gettempdir()) / f"irstd_cuda_on_cpu_{os.getuid()}" / f"{op}-{digest.hexdigest()[:16]}.so"
    if path.exists():
        return path
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise RuntimeError(f"{path.parent} belongs to another user; remove it or set TMPDIR")
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        kernels, binding, built = (str(Path(work) / name) for name in ("kernels.o", "binding.o", "op.so"))
        folder = CSRC / "ops" / op
        abi = ["-DTORCH_TARGET_VERSION=0x020b000000000000", "-DTORCH_STABLE_ONLY"]
        for command in (
            [COMPILER, "-x", "c++", "-std=c++17", *flags, *include, "-include", "cuda_on_cpu.h", "-c", str(folder / "cuda.cu"), "-o", kernels],
            [COMPILER, "-std=c++20", *flags, *include, *abi, "-c", str(folder / "cuda.cpp"), "-o", binding],
            [COMPILER, "-shared", *(SANITIZE if sanitize else []), kernels, binding, str(torch_root / "lib" / "libtorch_cpu.so"), "-o", built],
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-4000:]}")
        os.replace(built, path)
    return path
