"""Fixtures shared by several folders of tests."""
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch: processes that test side by side share the cores, and so do the commands that they start
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))

import pytest
import torch


@pytest.fixture
def one_thread():
    """Small tensors gain nothing from threads, and a busy machine loses by them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
