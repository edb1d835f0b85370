"""cuda_on_cpu.h itself: right kernels give right results in every order of their threads, planted mistakes are noticed."""
import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from cuda_on_cpu.build import COMPILER, CSRC, HERE, compiler

pytestmark = pytest.mark.skipif(not compiler(), reason="there is no C++ compiler")
ORDERS = {"ascending": 0, "descending": 1, "shuffled": 2}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> ctypes.CDLL:
    path: Path = tmp_path_factory.mktemp("planted") / "planted.so"
    subprocess.run([COMPILER, "-x", "c++", "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{HERE}", f"-I{CSRC}", "-include", "cuda_on_cpu.h", str(HERE / "planted.cu"),
                    "-o", str(path)], check=True)
    library = ctypes.CDLL(str(path))
    library.run.restype = library.cpu_cuda_take_log.restype = ctypes.c_char_p
    return library


def run(planted, which: int, order: int) -> tuple[str, torch.Tensor]:
    source, to = torch.arange(128.0), torch.zeros(128)
    planted.cpu_cuda_set_order(order)
    error = planted.run(which, ctypes.c_void_p(source.data_ptr()), ctypes.c_void_p(to.data_ptr())).decode()
    planted.cpu_cuda_set_order(0)
    return error, to


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_right_kernels_are_right_in_every_order(planted, order):
    error, to = run(planted, 0, order)
    assert error == "" and torch.equal(to, torch.arange(128.0).view(2, 64).flip(1).flatten())
    error, to = run(planted, 5, order)
    sums = torch.arange(64.0).view(2, 32).sum(1, keepdim=True)
    assert error == "" and torch.equal(to[:64], (3 * sums).expand(2, 32).flatten())


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_missing_barrier_is_noticed(planted, order):
    """Without the barrier half of the threads read what is not written yet; shared memory starts as NaN."""
    error, to = run(planted, 1, order)
    assert error == "" and to.isnan().any()


@pytest.mark.parametrize("which, message", [(2, "barrier not reached by every thread"), (3, "write beyond the block's shared memory"),
                                            (6, "launch with 50176 bytes of shared memory"), (7, "launch of 0 blocks of 64 threads")])
def test_mistakes_are_errors(planted, which, message):
    assert run(planted, which, 0)[0] == message


def test_shared_memory_starts_as_nan(planted):
    error, to = run(planted, 4, 0)
    assert error == "" and to[:64].isnan().all()


def test_launches_are_logged(planted):
    planted.cpu_cuda_take_log()
    run(planted, 5, 0)
    assert planted.cpu_cuda_take_log() == b"warp_sums 64\n" and planted.cpu_cuda_take_log() == b""
