"""The ways an operator can be run, behind one interface for the generic suite."""
import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

import torch
from cuda_on_cpu.build import compiler, library
from irstd_ext import _load
from torch import Tensor

from ops.triton_worker import pack, receive, send


@dataclass(frozen=True)
class Backend:
    """`forward` and `backward` take the arguments of the torch ops <op> and <op>_backward, and return what these return."""

    name: str
    max_elements: Optional[int] = None  # of the largest tensor, where a run is slow

    def available(self) -> tuple[bool, str]:
        """Whether it runs here, and why not."""
        raise RuntimeError(f"{self.name} does not say")

    def run(self, op: str, function: str, args: tuple) -> Any:
        raise RuntimeError(f"{self.name} runs nothing")

    def forward(self, op: str, *args) -> Tensor:
        return self.run(op, op, args)

    def backward(self, op: str, *args) -> tuple[Tensor, ...]:
        return self.run(op, f"{op}_backward", args)


class Cpu(Backend):
    def available(self):
        return not _load.cpu_reason, _load.cpu_reason

    def run(self, op, function, args):
        return getattr(torch.ops.irstd_ext, function)(*args)


@cache
def cuda_on_cpu_library(op: str) -> ctypes.CDLL:
    """Loads the op's kernels for the CPU (instrumented where CUDA_ON_CPU_SANITIZE is set) as torch.ops.irstd_cuda_on_cpu.<op> and <op>_backward. The library
    has cpu_cuda_set_order(0 | 1 | 2), the order in which threads and blocks run, and cpu_cuda_take_log(), the launches since its last call."""
    path = library(op, sanitize=bool(os.environ.get("CUDA_ON_CPU_SANITIZE")))
    for name in (op, f"{op}_backward"):
        torch.library.define(f"irstd_cuda_on_cpu::{name}", str(getattr(torch.ops.irstd_ext, name).default._schema).split(name, 1)[1])
    torch.ops.load_library(str(path))
    loaded = ctypes.CDLL(str(path))
    loaded.cpu_cuda_take_log.restype = ctypes.c_char_p
    return loaded


class CudaOnCpu(Backend):
    """csrc/ops/<op>/cuda.cu and cuda.cpp, compiled for the CPU, on CPU tensors."""

    def available(self):
        return (True, "") if compiler() else (False, "there is no C++ compiler")

    def run(self, op, function, args):
        cuda_on_cpu_library(op)
        return getattr(torch.ops.irstd_cuda_on_cpu, function)(*args)


class TritonInterpreter(Backend):
    """irstd_ext/triton/<op>.py on CPU tensors, in a process of its own."""

    def available(self):
        if not find_spec("triton"):
            return False, "triton is not installed"
        has = {name: tuple(map(int, version(name).split(".")[:2])) for name in ("triton", "numpy")}
        if has["triton"] < (3, 7) and has["numpy"] >= (2, 4):
            return False, f"the interpreter of triton {version('triton')} does not run on numpy {version('numpy')}: it makes numbers of arrays"
        return True, ""

    def run(self, op, function, args):
        worker = _worker()
        send(worker.stdin, (op, function, [pack(a) for a in args]))
        answer = receive(worker.stdout)
        if answer is None:
            raise RuntimeError(f"the Triton worker died with status {worker.wait()}")
        result, error = answer
        if error:
            raise RuntimeError(error)
        return result


@cache
def _worker() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(Path(__file__).with_name("triton_worker.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _has_gpu() -> tuple[bool, str]:
    return (True, "") if torch.cuda.is_available() else (False, f"torch {torch.__version__} sees no CUDA device")


def _on_gpu(call, args):
    """CPU tensors go to the device, in their layout where it has no gaps, and results come back; CUDA tensors stay."""
    moved = any(isinstance(a, Tensor) and a.device.type == "cpu" for a in args)
    result = call(*[a.cuda() if isinstance(a, Tensor) else a for a in args])
    if not moved:
        return result
    return result.cpu() if isinstance(result, Tensor) else tuple(r.cpu() for r in result)


class Cuda(Backend):
    def available(self):
        found, reason = _has_gpu()
        if found and _load.cuda_backend != "cuda":
            return False, _load.cuda_reason or "IRSTD_EXT_CUDA=triton"
        return found, reason

    def run(self, op, function, args):
        return _on_gpu(getattr(torch.ops.irstd_ext, function), args)


class Triton(Backend):
    def available(self):
        found, reason = _has_gpu()
        if found and not find_spec("triton"):
            return False, "triton is not installed"
        return found, reason

    def run(self, op, function, args):
        return _on_gpu(getattr(import_module(f"irstd_ext.triton.{op}"), function), args)


BACKENDS: dict[str, Backend] = {
    b.name: b for b in (Cpu("cpu"), CudaOnCpu("cuda_on_cpu", 20_000), TritonInterpreter("triton_interpreter", 20_000), Cuda("cuda"), Triton("triton"))
}
