"""Fixtures shared by several folders of tests."""
import pytest
import torch


@pytest.fixture
def one_thread():
    """Small tensors gain nothing from threads, and a busy machine loses by them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
