"""The torchmetrics class: same numbers, summed over two gloo processes, reset, pickling."""
import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from python_models.metrics import COUNTS, IRSTDMetrics

pytest.importorskip("torchmetrics", reason="torchmetrics (extra: train) is not installed")
from python_models.metrics import IRSTDTorchMetric  # noqa: E402


def batch(seed, n=5):
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((n, 1, 24, 31)) < 0.02)
    return torch.from_numpy(rng.normal(size=mask.shape)) - 1.5 + 4 * mask, mask


def numbers(result):
    return {k: v for k, v in result.items() if not isinstance(v, str)}


def expected(*batches, **options):
    metric = IRSTDMetrics(**options)
    for pair in batches:
        metric.update(*pair)
    return numbers(metric.compute())


@pytest.mark.parametrize("options", [
    {}, {"protocol": "legacy", "empty": "skip"}, {"protocol": "overlap"}, {"protocol": "shooting", "fixed_pixels": 7}])
def test_equals_irstd_metrics(options):
    metric = IRSTDTorchMetric(**options)
    metric.update(*batch(0))
    assert metric(*batch(1)) == expected(batch(1), **options)  # forward gives the batch's own values
    assert metric.compute() == expected(batch(0), batch(1), **options)
    for other in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert other.compute() == metric.compute()
    metric.reset()
    assert metric.counts.tolist() == [0] * len(COUNTS) and metric.counts.dtype == torch.int64
    metric.update(*batch(1))
    assert metric.compute() == expected(batch(1), **options)


def process(rank, store):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    metric = IRSTDTorchMetric()
    metric.update(*batch(rank, n=3 + rank))
    print(json.dumps(metric.compute()))
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    """This file, run as a script, is one of the two."""
    commands = [[sys.executable, __file__, str(rank), str(tmp_path / "store")] for rank in range(2)]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    printed = [p.communicate(timeout=120)[0] for p in running]
    assert [p.returncode for p in running] == [0, 0]
    want = expected(batch(0, n=3), batch(1, n=4))
    assert [json.loads(text) for text in printed] == [want, want] and want["n_images"] == 7


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2])
