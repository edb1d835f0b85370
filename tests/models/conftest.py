"""Helpers of the network tests."""
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

VECTORS = Path(__file__).parents[1] / "vectors"


@pytest.fixture(autouse=True)
def _seed():
    """Same weights and inputs on every run; one thread, since these tensors are small."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def load_vectors():
    """load_vectors("op/case", dtype) -> dict of tensors; a missing file is an error."""
    def load(name, dtype=torch.float64):
        with np.load(VECTORS / f"{name}.npz", allow_pickle=False) as data:
            return {key: torch.from_numpy(data[key]).to(dtype) for key in data}
    return load


def _error(got, expected):
    return ((got.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


@pytest.fixture
def assert_close():
    """assert_close(got, expected, tolerance): max |got - expected| <= tolerance * max |expected|, and the tolerance rejects wrong results."""
    def check(got, expected, tolerance, label=""):
        assert got.shape == expected.shape, label
        wrong = [torch.zeros_like(expected), expected * 1.01]
        if expected.numel() > 1 and (expected != expected.flatten()[0]).any():
            wrong.append(expected.flatten().roll(1).view_as(expected))
        assert all(_error(w, expected) > tolerance for w in wrong), f"{label}: tolerance {tolerance} accepts a wrong result"
        assert _error(got, expected) <= tolerance, f"{label}: error {_error(got, expected):.2e} > {tolerance}"
    return check


class _MacCounter:
    """Multiply-accumulates by hooks, for one forward pass.

    thop: convolutions without bias, Linear, 4 per BatchNorm element, per output element 1 for nearest and 11 for bilinear upsampling;
    3M - 1 per softmax over M elements; matrix products uncounted. products: convolutions, Linear, and the attention's matrix products.
    """

    def __init__(self, net, x):
        self.thop = self.products = 0
        handles = [m.register_forward_hook(self._count) for m in net.modules()]
        net(x)
        for handle in handles:
            handle.remove()

    def _count(self, module, args, out):
        if isinstance(module, nn.Conv2d):
            self._both(out.numel() * module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1])
        elif isinstance(module, nn.Linear):
            self._both(out.numel() * module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            self.thop += 4 * out.numel()
        elif isinstance(module, nn.Upsample):
            self.thop += {"nearest": 1, "bilinear": 11}[module.mode] * out.numel()
        elif type(module).__name__ == "BilinearSGEM":
            batch, channels, rows, columns = out.shape
            self._both(batch * channels * rows * columns)  # conv1x1 from 1 to C channels on the outer product q k^T
            self.thop += batch * channels * rows * (3 * rows - 1)
            self.products += batch * channels * rows * rows * columns  # A @ value
        elif type(module).__name__ == "LinearSGEM":
            inner = module.value.out_channels
            tokens = (args[0].shape[2:].numel() + args[1].shape[2:].numel()) * out.shape[0]  # N queries + M keys
            self.products += tokens * inner * inner // module.heads

    def _both(self, macs):
        self.thop += macs
        self.products += macs


@pytest.fixture
def count_macs():
    return _MacCounter
