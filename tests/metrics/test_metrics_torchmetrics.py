"""The torchmetrics classes: same numbers, summed over two gloo processes, in one collection, reset, pickling."""
import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from irstd_ext import targets
from python_models.metrics import COUNTS, Breakdown, CoarseSweep, IRSTDMetrics

pytest.importorskip("torchmetrics", reason="torchmetrics (extra: train) is not installed")
from torchmetrics import Metric, MetricCollection  # noqa: E402

from python_models.metrics import BreakdownTorchMetric, CoarseSweepTorchMetric, IRSTDTorchMetric  # noqa: E402


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
    {}, {"protocol": "legacy", "empty": "skip"}, {"protocol": "overlap", "gt_rule": "full"}, {"protocol": "shooting", "fixed_pixels": 7}])
def test_equals_irstd_metrics(options):
    metric = IRSTDTorchMetric(**options)
    metric.update(*batch(0))
    assert metric(*batch(1)) == expected(batch(1), **options)  # forward gives the batch's own values
    assert metric.compute() == expected(batch(0), batch(1), **options)
    for other in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert other.compute() == metric.compute()
    metric.reset()
    assert [c.tolist() for c in metric.counts] == [[0] * len(COUNTS)] and metric.counts[0].dtype == torch.int64
    metric.update(*batch(1))
    assert metric.compute() == expected(batch(1), **options)


def image(mask):
    """Something to measure an SCR in."""
    return mask * 2.0 + torch.linspace(0, 1, mask.shape[-1], dtype=torch.float64)


def plain(value):
    """Results as JSON would hold them; NaN as text, so that it equals itself."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    value = getattr(value, "item", lambda: value)()
    return "nan" if value != value else value


def test_sweep_and_breakdown_equal_their_plain_classes():
    logits, mask = batch(3)
    for metric, same, extra in ((CoarseSweepTorchMetric("logits", gt_rule="full"), CoarseSweep("logits", gt_rule="full"), {}),
                                (BreakdownTorchMetric("overlap", sizes=(1, 2)), Breakdown("overlap", sizes=(1, 2)), {"image": image(mask)})):
        metric.update(logits[:2], mask[:2], **{k: v[:2] for k, v in extra.items()})
        metric.update(logits[2:], mask[2:], **{k: v[2:] for k, v in extra.items()})
        same.update(logits, mask, **extra)
        assert plain(metric.compute()) == plain(same.compute())
        assert plain(pickle.loads(pickle.dumps(metric)).compute()) == plain(same.compute())
        metric.reset()
        metric.update(logits[:1], mask[:1], **{k: v[:1] for k, v in extra.items()})
        assert plain(metric.compute()) != plain(same.compute())


def collection():
    """All protocols, the sweep and the breakdown; ``strict`` differs from ``exact`` in its threshold alone."""
    return MetricCollection({p: IRSTDTorchMetric(p) for p in targets.PROTOCOLS} | {
        "strict": IRSTDTorchMetric(threshold=0.9), "sweep": CoarseSweepTorchMetric("logits"), "parts": BreakdownTorchMetric()})


def singles(batches):
    """The same from the plain classes, by the names of the collection."""
    metrics = {p: IRSTDMetrics(p) for p in targets.PROTOCOLS} | {"strict": IRSTDMetrics(threshold=0.9), "sweep": CoarseSweep("logits"), "parts": Breakdown()}
    for logits, mask in batches:
        for name, metric in metrics.items():
            metric.update(logits, mask, *([image(mask)] if name == "parts" else []))
    return {f"{name}_{k}": v for name, m in metrics.items() for k, v in plain(numbers(m.compute())).items()}


def test_collections_do_not_take_one_protocol_for_another():
    """torchmetrics updates only one of two metrics whose states were equal after the first batch."""
    mask = torch.zeros(1, 1, 24, 31, dtype=torch.bool)
    mask[..., 5, 5] = True
    easy = mask * 8.0 - 4, mask  # every protocol and threshold counts the same
    got = collection()
    for logits, truth in (easy, batch(1), batch(2)):
        got.update(logits, truth, image=image(truth))
    assert plain(got.compute()) == singles([easy, batch(1), batch(2)])
    assert len({plain(got.compute())[f"{p}_Fa"] for p in ("exact", "legacy", "overlap", "strict")}) == 4


def test_the_trap_of_collections_exists():
    """Negative control: states of one name are merged, and the second metric is not updated."""
    class SameName(Metric):
        full_state_update = False

        def __init__(self, **options):
            super().__init__()
            self.engine = IRSTDMetrics(**options)
            self.add_state("counts", default=torch.zeros(len(COUNTS), dtype=torch.int64), dist_reduce_fx="sum")

        def update(self, prediction, mask):
            self.counts = self.counts + torch.from_numpy(self.engine.count(prediction, mask))

        def compute(self):
            self.engine.load_counts(self.counts)
            return {"TP": self.engine.compute()["TP"]}

    mask = torch.zeros(1, 1, 24, 31, dtype=torch.bool)
    mask[..., 5, 5] = True
    got = MetricCollection({"a": SameName(), "b": SameName(threshold=0.9)})
    got.update(mask * 8.0 - 4, mask)
    got.update(*batch(1))
    assert got.compute()["a_TP"] == got.compute()["b_TP"] != expected((mask * 8.0 - 4, mask), batch(1), threshold=0.9)["TP"]


def process(rank, store):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    together, one_sided = collection(), IRSTDTorchMetric()
    for seed, n in SHARES[rank]:
        logits, mask = batch(seed, n=n)
        together.update(logits, mask, image=image(mask))
        if rank == 0:
            one_sided.update(logits, mask)
    print(json.dumps([plain(together.compute()), plain(one_sided.compute())]))
    torch.distributed.destroy_process_group()


SHARES = [[(0, 3), (1, 1)], [(2, 4)]]  # (seed, images) of every batch of each process


def test_two_processes_give_the_numbers_of_one(tmp_path):
    """This file, run as a script, is one of the two. One metric gets images in one process only."""
    commands = [[sys.executable, "-W", "ignore", __file__, str(rank), str(tmp_path / "store")] for rank in range(2)]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    printed = [p.communicate(timeout=120)[0] for p in running]
    assert [p.returncode for p in running] == [0, 0]
    batches = [[batch(seed, n=n) for seed, n in share] for share in SHARES]
    want = [singles(batches[0] + batches[1]), plain(expected(*batches[0]))]
    assert [json.loads(text) for text in printed] == [want, want] and want[0]["exact_n_images"] == 8
    assert want[0] != singles(batches[0])  # negative control: one share alone is something else


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2])
