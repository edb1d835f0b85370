"""One pass for all protocols: rows, choices of images, merging, and bootstrap intervals."""
import doctest
import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irstd_ext import targets
from python_models.metrics import IRSTDMetrics, ProtocolMetrics, bootstrap, protocols

quick = settings(max_examples=30, deadline=None, derandomize=True, database=None)


def batch(seed, n=12, shape=(32, 32)):
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((n, 1, *shape)) < 0.004)
    return torch.from_numpy(rng.normal(size=(n, 1, *shape)) - 2.6).float() + 3.5 * mask, mask


def filled(logits, mask, **options):
    metric = ProtocolMetrics(**options)
    metric.update(logits, mask)
    return metric


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([{}, {"fixed_pixels": 99, "empty": "skip"}, {"threshold": 0.3}]))
def test_equals_four_irstd_metrics_and_rows_choose_images(seed, size, options):
    logits, mask = batch(seed)
    metric = ProtocolMetrics(**options)
    for k in range(0, len(mask), size):
        metric.update(logits[k:k + size], mask[k:k + size])
    chosen = np.random.default_rng(seed).integers(0, 12, 7)
    for protocol in targets.PROTOCOLS:
        own = {k: v for k, v in options.items() if (k, protocol) != ("fixed_pixels", "overlap")}
        for rows, index in ((None, slice(None)), (chosen, chosen), (np.arange(12) % 3 == 0, slice(None, None, 3)), ([], slice(0))):
            alone = IRSTDMetrics(protocol, **own)
            alone.update(logits[index], mask[index])
            assert repr(metric.compute(protocol, rows)) == repr(alone.compute())


def test_rows_are_the_images_in_order():
    logits, mask = batch(1)
    rows = filled(logits, mask).rows()
    assert rows.dtype.names == protocols.ROW and len(rows) == 12 and rows["n_images"].tolist() == [1] * 12
    for k in range(12):
        m = targets.match(logits[k, 0] > 0, mask[k, 0])
        assert (rows["n_gt"][k], rows["n_hit"][k], rows["fa_pixels_exact"][k]) == (m.n_gt, m.n_hit, m.fa_pixels)
    rows["TP"] = 0
    assert filled(logits, mask).rows()["TP"].sum() > 0 == rows["TP"].sum()


def test_merge_and_reset():
    logits, mask = batch(2)
    whole = filled(logits, mask)
    parts = filled(logits[7:], mask[7:]).merge(filled(logits[:7], mask[:7]))
    assert all(repr(parts.compute(p)) == repr(whole.compute(p)) for p in targets.PROTOCOLS) and len(parts) == 12
    assert parts.bootstrap() == whole.bootstrap() != filled(logits[1:], mask[1:]).bootstrap()  # order does not matter, images do
    parts.reset()
    assert len(parts) == 0 and math.isnan(parts.compute()["IoU"]) and all(math.isnan(v) for ends in parts.bootstrap().values() for v in ends)
    with pytest.raises(ValueError, match="ProtocolMetrics.merge: options must be equal"):
        whole.merge(ProtocolMetrics(threshold=0.4))


def test_bootstrap_is_seeded_and_does_not_depend_on_its_chunks(monkeypatch):
    metric = filled(*batch(3))
    one = metric.bootstrap("legacy", samples=200)
    assert one == metric.bootstrap("legacy", samples=200) != metric.bootstrap("legacy", samples=200, seed=1)
    monkeypatch.setattr(protocols, "_CHUNK", 7 * 12)
    assert one == metric.bootstrap("legacy", samples=200)
    for field, (low, high) in one.items():
        assert low < metric.compute("legacy")[field] < high


@pytest.mark.parametrize("field, part, whole", [("Pd", "n_hit", "n_gt"), ("Fa", "fa_pixels_exact", "pixels"), ("recall", "TP", None)])
def test_bootstrap_equals_scipy_within_monte_carlo_error(field, part, whole):
    """Quantile 2.5 % of N draws of a normal law errs by sqrt(.025 * .975 / N) / .0584 = 0.019 sd at N = 20000."""
    rows = filled(*batch(4, n=40)).rows()
    below = rows[whole] if whole else rows["TP"] + rows["FN"]

    def statistic(k, axis):
        return rows[part][k].sum(axis) / below[k].sum(axis)

    def scipys(level):
        got = scipy.stats.bootstrap((np.arange(40),), statistic, n_resamples=20000, batch=2000, method="percentile", confidence_level=level, rng=5)
        return got.confidence_interval, got.standard_error

    (low, high), error = scipys(0.95)
    got = bootstrap(rows, [field], samples=20000)[field]
    tolerance = 5 * 2**0.5 * 0.019 * error
    assert abs(got[0] - low) < tolerance and abs(got[1] - high) < tolerance
    narrower = bootstrap(rows, [field], samples=20000, level=0.9)[field]
    assert abs(narrower[0] - low) > tolerance and abs(narrower[1] - high) > tolerance  # negative control


def test_intervals_cover_the_truth():
    """Pd of images whose targets are found or missed together; 95 % intervals hold it about as often as they say."""
    rng, covered = np.random.default_rng(6), {0.95: 0, 0.5: 0}
    for _ in range(150):
        rows = np.zeros(60, protocols.ROW_DTYPE)
        rows["n_images"], rows["n_gt"] = 1, rng.integers(1, 4, 60)
        rows["n_hit"] = rows["n_gt"] * (rng.random(60) < 0.8)
        for level in covered:
            low, high = bootstrap(rows, ["Pd"], samples=300, level=level)["Pd"]
            covered[level] += low <= 0.8 <= high
    assert 0.88 < covered[0.95] / 150 < 0.99 and covered[0.5] / 150 < 0.7  # 0.5: negative control


def test_memory_of_the_bootstrap_does_not_grow_with_the_images_drawn():
    """10,000 draws of 2,000 images are 160 MB as weights and 1.6 MB as sums; what is held is the bounded part and the figures."""
    rows = np.zeros(2000, protocols.ROW_DTYPE)
    rows["n_images"], rows["n_gt"], rows["n_hit"] = 1, 1, np.arange(2000) % 2
    peaks = {}
    for samples in (3000, 10_000):
        tracemalloc.start()
        bootstrap(rows, ["Pd"], samples=samples)
        peaks[samples] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[10_000] < peaks[3000] + 2e6 and peaks[3000] < 8e7


def test_bootstrap_of_undefined_ratios():
    mask = np.zeros((3, 8, 8), bool)
    nothing = filled(mask * 1.0 - 1, mask)
    ends = nothing.bootstrap(fields=("Pd", "IoU", "Fa", "nIoU_skip"))
    assert ends["Fa"] == (0, 0) and all(math.isnan(v) for f in ("Pd", "IoU", "nIoU_skip") for v in ends[f])
    mask[1, 2, 2] = True  # one target: draws without its image have no Pd and are left out
    assert filled(mask * 2.0 - 1, mask).bootstrap(fields=("Pd", "n_gt")) == {"Pd": (1, 1), "n_gt": (0, 3)}


def test_invalid_arguments_give_one_line():
    metric = filled(*batch(1))
    for call, message in (
            (lambda: metric.compute("exakt"), "ProtocolMetrics.compute: protocol must be one of exact, legacy, overlap, shooting, got 'exakt'"),
            (lambda: metric.bootstrap("exakt"), "bootstrap: protocol must be one of"),
            (lambda: metric.bootstrap(fields=["mIoU"]), "bootstrap: fields must be among n_images,"),
            (lambda: metric.bootstrap(samples=0), "bootstrap: samples must be >= 1 and level in (0, 1), got 0 and 0.95"),
            (lambda: metric.bootstrap(samples=10**11), "bootstrap: samples must be <= 1000000, got 100000000000"),
            (lambda: metric.bootstrap(level=95), "bootstrap: samples must be >= 1 and level in (0, 1), got 1000 and 95"),
            (lambda: ProtocolMetrics(gt_rule="most"), "ProtocolMetrics: gt_rule must be one of half, full, nonzero, got 'most'"),
            (lambda: ProtocolMetrics(fixed_pixels=0), "ProtocolMetrics: fixed_pixels must be an integer >= 1, got 0")):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_docstring_examples():
    result = doctest.testmod(protocols)
    assert result.failed == 0 and result.attempted >= 6
