"""The typed front: accepted inputs, messages, the NumPy form without the compiled module, threads."""
import doctest
import importlib.util
import sys
import threading
import warnings

import numpy as np
import pytest
import torch

from irstd_ext import _targets, targets

MASK = np.random.default_rng(0).random((20, 31)) < 0.2


@pytest.mark.parametrize("form", [
    MASK, MASK.astype(np.uint8) * 255, MASK.astype(np.int64), MASK.astype(np.uint16) * 7, MASK.astype(np.float32), MASK.astype(np.float16),
    np.asfortranarray(MASK), np.repeat(MASK, 2, 1)[:, ::2], MASK[::-1, ::-1].copy()[::-1, ::-1], MASK.astype(">i4"), MASK.tolist(),
    torch.from_numpy(MASK), torch.from_numpy(MASK).to(torch.bfloat16), torch.from_numpy(MASK).float().requires_grad_(),
    torch.from_numpy(MASK.T.copy()).T])
def test_accepts_arrays_and_tensors_of_any_layout(form):
    labels, n = targets.label(form)
    want, k = targets.label(MASK)
    assert np.array_equal(labels, want) and n == k == len(targets.regions(form))
    assert targets.match(form, MASK).n_hit == targets.match(MASK, MASK).n_hit


def test_accepts_read_only_masks():
    mask = MASK.copy()
    mask.flags.writeable = False
    assert targets.label(mask)[1] == targets.label(MASK)[1]


ZERO = np.zeros((4, 4), bool)
BAD = [
    (lambda: targets.label(np.zeros(3)), "label: mask must be 2-D [H, W], got 1-D"),
    (lambda: targets.label(torch.zeros(1, 3, 3)), "label: mask must be 2-D [H, W], got 3-D"),
    (lambda: targets.label(ZERO.astype(complex)), "label: mask must be boolean, integer or float, got complex128"),
    (lambda: targets.label(ZERO.astype(object)), "label: mask must be boolean, integer or float, got object"),
    (lambda: targets.label(np.full((2, 2), 0.3)), "label: mask must hold only 0 and 1 where it is float, got 0.3; threshold it first"),
    (lambda: targets.label(np.full((2, 2), np.nan)), "label: mask must hold only 0 and 1 where it is float, got nan; threshold it first"),
    (lambda: targets.label(np.broadcast_to(np.uint8(0), (2**16, 2**15))),
     "label: mask must have fewer than 2^31 pixels, got 65536 x 32768"),
    (lambda: targets.regions(np.zeros((1, 1, 1))), "regions: mask must be 2-D [H, W], got 3-D"),
    (lambda: targets.match(ZERO, ZERO, "exakt"), "match: protocol must be one of exact, legacy, overlap, shooting, got 'exakt'"),
    (lambda: targets.match(ZERO[:3], ZERO), "match: pred and gt must have one shape, got (3, 4) and (4, 4)"),
    (lambda: targets.match(ZERO[0], ZERO), "match: pred must be 2-D [H, W], got 1-D"),
    (lambda: targets.match(ZERO, ZERO[0]), "match: gt must be 2-D [H, W], got 1-D"),
    (lambda: targets.curve(np.full((2, 2), np.nan), ZERO[:2, :2]), "curve: score must be finite, got nan"),
    (lambda: targets.curve(np.full((2, 2), np.inf), ZERO[:2, :2]), "curve: score must be finite, got inf"),
    (lambda: targets.curve(np.zeros((2, 3)), ZERO), "curve: score and gt must have one shape, got (2, 3) and (4, 4)"),
    (lambda: targets.curve(np.zeros((1, 4, 4)), ZERO), "curve: score must be 2-D [H, W], got 3-D"),
    (lambda: targets.curve(np.zeros((4, 4), complex), ZERO), "curve: score must be boolean, integer or float, got complex128"),
    (lambda: targets.curve(np.full((4, 4), 2**60), ZERO), "curve: score must be exact in float64, got 1152921504606846976"),
    (lambda: targets.curve(np.full((4, 4), 2**64 - 1, np.uint64), ZERO), "curve: score must be exact in float64, got 18446744073709551615"),
    (lambda: targets.curve(np.full((4, 4), -2**63), ZERO), "curve: score must be exact in float64, got -9223372036854775808"),
    (lambda: targets.curve([ZERO], ZERO), "curve: score and gt must both be one image or both be lists of images"),
    (lambda: targets.curve([ZERO], [ZERO, ZERO]), "curve: score and gt must be lists of one length >= 1, got 1 and 2"),
    (lambda: targets.curve([], []), "curve: score and gt must be lists of one length >= 1, got 0 and 0"),
    (lambda: targets.curve(ZERO, ZERO).pd_at_fa(-1), "Curve.pd_at_fa: budgets must be numbers >= 0, got -1"),
    (lambda: targets.curve(ZERO, ZERO).pd_at_fa([0.1, np.nan]), "Curve.pd_at_fa: budgets must be numbers >= 0, got [0.1, nan]"),
    (lambda: targets.curve(ZERO, ZERO).at(np.nan), "Curve.at: threshold must not be NaN"),
    (lambda: targets.CurveBuilder().add(np.full((4, 4), -np.inf), ZERO), "CurveBuilder.add: score must be finite, got -inf"),
    (lambda: targets.CurveBuilder().add(ZERO, ZERO[:3]), "CurveBuilder.add: score and gt must have one shape, got (4, 4) and (3, 4)"),
    (lambda: targets.CurveBuilder().merge(ZERO), "CurveBuilder.merge: other must be a CurveBuilder, got ndarray"),
    (lambda: targets.CurveBuilder().result(), "CurveBuilder.result: there must be an image, got none"),
    (lambda: _targets.label(np.zeros(3, np.uint8)), "mask must be 2-D [H, W], got 1-D"),
    (lambda: _targets.match(np.zeros((2, 3), np.int64), np.zeros((0, 7), np.int64)), "pred must be [n, 7]"),
    (lambda: _targets.match(np.zeros((0, 7), np.int64), np.zeros((1, 7), np.int64)), "gt must hold the statistics of components"),
    (lambda: _targets.match(np.full((1, 7), 2**62), np.zeros((0, 7), np.int64)), "pred must hold the statistics of components"),
    (lambda: _targets.sweep(np.zeros((2, 3)), np.zeros((3, 2), np.uint8)), "score and gt must have one shape"),
    (lambda: _targets.sweep(np.zeros(6), np.zeros((3, 2), np.uint8)), "score and gt must have one shape"),
    (lambda: _targets.sweep(np.zeros(6), np.zeros(6, np.uint8)), "mask must be 2-D [H, W], got 1-D"),
    (lambda: _targets.sweep(np.full((1, 1), np.nan), np.zeros((1, 1), np.uint8)), "score must be finite"),
]


@pytest.mark.parametrize("call, message", BAD, ids=[m[:60] for _, m in BAD])
def test_invalid_inputs_give_one_line(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


SUBMODULES = ("inputs", "matching", "pd_fa")


def without_compiled_module(monkeypatch):
    """A fresh copy of the front, imported while the compiled module cannot be."""
    monkeypatch.setitem(sys.modules, "irstd_ext._targets", None)
    spec = importlib.util.spec_from_file_location("irstd_ext_targets_without_native", targets.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    for part in SUBMODULES:  # forgotten again afterwards
        monkeypatch.setitem(sys.modules, f"{spec.name}.{part}", None)
        del sys.modules[f"{spec.name}.{part}"]
    spec.loader.exec_module(module)
    return module


def test_numpy_form_serves_without_the_compiled_module(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        front = without_compiled_module(monkeypatch)  # importing is silent
    assert front.backend() == "numpy" and targets.backend() == "native"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        labels, n = front.label(MASK)
        found = front.regions(MASK)
        matches = [front.match(np.roll(MASK, 1, 0), MASK, p) for p in front.PROTOCOLS]
        curve = front.curve(MASK * 0.5, MASK)
    assert [w.category for w in seen] == [RuntimeWarning] and seen[0].filename == __file__
    assert "compiled module not loaded" in str(seen[0].message) and "\n" not in str(seen[0].message)
    want, k = targets.label(MASK)
    assert np.array_equal(labels, want) and n == k
    assert [vars(r) for r in found] == [vars(r) for r in targets.regions(MASK)]
    for got, protocol in zip(matches, targets.PROTOCOLS):
        m = targets.match(np.roll(MASK, 1, 0), MASK, protocol)
        assert np.array_equal(got.hit, m.hit) and (got.fa_pixels, got.fp_objects) == (m.fa_pixels, m.fp_objects)
    assert curve.n_hit.tolist() == targets.curve(MASK * 0.5, MASK).n_hit.tolist()


def trace(work):
    """Order of events of a worker thread and the main thread when no thread is ever forced to give up the GIL."""
    log = []

    def worker():
        log.append("enter")
        work()
        log.append("leave")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=worker)
        thread.start()
        log.append("main")
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    return log


def test_gil_is_released_while_labelling():
    """Only a call that releases the GIL lets the main thread in between; a few tries allow for a late wake-up.

    `label` computes in the same function as `regions`; it cannot be judged here, since numpy.zeros releases the GIL too.
    """
    mask = (np.random.default_rng(0).random((3000, 3000)) < 0.3).view(np.uint8)
    pred = np.tile(np.array([[1, 0, 0, 0, 0, 1, 1]]), (200_000, 1))
    gt = pred[:400] + np.array([0, 50, 0, 0, 0, 0, 0])  # few: NumPy itself releases the GIL to copy more than 500 indices
    score, truth = np.random.default_rng(1).random((400, 400)), np.zeros((400, 400), np.uint8)
    for work in (lambda: _targets.regions(mask), lambda: _targets.match(pred, gt), lambda: _targets.sweep(score, truth)):
        assert any(trace(work) == ["enter", "main", "leave"] for _ in range(20))
    held = [trace(lambda: sum(range(3_000_000))) for _ in range(3)]  # negative control: holds the GIL
    assert ["enter", "main", "leave"] not in held


def test_threads_give_the_results_of_one():
    rng = np.random.default_rng(1)
    masks = [rng.random((200, 300)) < 0.4 for _ in range(8)]
    want = [targets.regions(m) for m in masks]
    got = [None] * len(masks)

    def worker(k):
        got[k] = targets.regions(masks[k])

    threads = [threading.Thread(target=worker, args=(k,)) for k in range(len(masks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == want


def test_docstring_examples():
    results = [doctest.testmod(importlib.import_module(f"irstd_ext.targets.{part}")) for part in SUBMODULES]
    assert not any(r.failed for r in results) and sum(r.attempted for r in results) >= 11
