"""A set that arrives image by image: the same curve in any order, over any merges, in bounded memory."""
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from irstd_ext import targets

VECTORS = Path(__file__).parents[1] / "vectors" / "metrics"
COUNTS = ("n_gt", "gt_pixels", "pixels", "n_images")
ARRAYS = ("thr", "n_hit", "fa_pixels", "fp_objects", "tp", "fp")
IMAGE = st.tuples(st.integers(0, 6), st.integers(0, 6)).flatmap(lambda s: st.tuples(
    hnp.arrays(np.float64, s, elements=st.sampled_from([0, 0.25, 0.5, 0.75, 1, -1, -0.0]) | st.floats(-2, 2)), hnp.arrays(bool, s, elements=st.booleans())))
quick = settings(max_examples=80, deadline=None, derandomize=True, database=None)


def built(images):
    builder = targets.CurveBuilder()
    for score, gt in images:
        builder.add(score, gt)
    return builder


def same(a, b):
    return all(getattr(a, f) == getattr(b, f) for f in COUNTS) and all(
        getattr(a, f).dtype == getattr(b, f).dtype and np.array_equal(getattr(a, f), getattr(b, f)) for f in ARRAYS)


def whole(images):
    return targets.curve([s for s, _ in images], [g for _, g in images])


def noise(seed, n, shape, levels=None):
    rng = np.random.default_rng(seed)
    draw = rng.random if levels is None else lambda s: rng.integers(0, levels, s)
    return [(draw(shape), rng.random(shape) < 0.05) for _ in range(n)]


@quick
@given(st.lists(IMAGE, min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_order_and_merges_change_nothing(images, random):
    want = whole(images)
    shuffled = random.sample(images, len(images))
    assert same(built(shuffled).result(), want)
    parts = [built([image]) for image in shuffled] + [targets.CurveBuilder()]
    while len(parts) > 1:  # any tree of merges
        one, other = (parts.pop(random.randrange(len(parts))) for _ in range(2))
        parts.append(one.merge(other))
    assert same(parts[0].result(), want)


def test_same_notices_every_field():
    """Negative control of `same`."""
    import dataclasses

    c = whole(noise(0, 1, (6, 6), 4))
    assert same(c, dataclasses.replace(c))
    for field in (*COUNTS, *ARRAYS):
        assert not same(c, dataclasses.replace(c, **{field: getattr(c, field) + 1})), field
    assert not same(c, dataclasses.replace(c, tp=c.tp.astype(float)))


@pytest.mark.parametrize("case", sorted(p.stem for p in VECTORS.glob("*.npz")))
def test_vectors(case):
    with np.load(VECTORS / f"{case}.npz", allow_pickle=False) as file:
        images = [(file[f"score_{k}"], file[f"mask_{k}"]) for k in range(int(file["exp_n_images"]))]
        want = {field: file[f"exp_curve_{field}"] for field in ARRAYS}
    half = len(images) // 2
    c = built(images[half:]).merge(built(images[:half])).result()
    assert all(np.array_equal(getattr(c, field), want[field]) for field in ARRAYS)


def test_scores_of_two_images_are_one_level_only_if_equal():
    one = np.full((2, 2), 0.7)
    images = [(one, one > 0), (np.nextafter(one, 1), one > 0), (one, one > 1), (-0.0 * one, one > 0), (0 * one, one > 0)]
    c = built(images).result()
    assert c.thr.tolist() == [np.nextafter(0.7, 1), 0.7, 0.0, -np.inf] and not np.signbit(c.thr[2])
    assert c.tp.tolist() == [0, 4, 8, 16] and c.fp.tolist() == [0, 0, 4, 4]


def test_result_can_be_taken_between_images():
    images = noise(1, 5, (9, 11))
    builder = targets.CurveBuilder()
    for k, image in enumerate(images):
        builder.add(*image)
        assert same(builder.result(), whole(images[:k + 1])) and same(builder.result(), whole(images[:k + 1]))


def test_merging_leaves_the_other_as_it_was():
    a, b = noise(2, 3, (8, 8)), noise(3, 2, (8, 8))
    one, other = built(a), built(b)
    one.merge(other).add(*a[0])
    one.result()
    assert same(other.result(), whole(b)) and same(one.result(), whole([*a, *b, a[0]]))
    assert same(one.merge(one).result(), whole([*a, *b, a[0]] * 2))


def test_a_result_is_not_changed_by_later_images():
    images = noise(4, 4, (8, 8), 5)
    builder = built(images[:2])
    before = builder.result()
    builder.add(*images[2])
    builder.merge(built(images[3:])).result()
    assert same(before, whole(images[:2]))


def test_a_refused_image_leaves_no_trace():
    images = noise(5, 2, (8, 8))
    builder = built(images)
    for score, gt in ((np.full((8, 8), np.nan), images[0][1]), (images[0][0][:4], images[0][1]), (images[0][0], np.full((8, 8), 0.5))):
        with pytest.raises(ValueError):
            builder.add(score, gt)
    assert same(builder.result(), whole(images))


def test_builders_can_be_pickled():
    images = noise(6, 3, (8, 8))
    assert same(pickle.loads(pickle.dumps(built(images))).result(), whole(images))


@pytest.mark.parametrize("n", [1, 7, 40])
def test_memory_follows_the_distinct_scores(n):
    images = noise(7, n, (24, 24), 256)
    assert built(images).nbytes <= 2 * 48 * 256
    floats = built(noise(8, n, (12, 12)))
    assert floats.nbytes <= 2 * 48 * 144 * n
    distinct = len(floats.result().thr) - 1
    assert distinct == 144 * n and floats.nbytes == 48 * distinct
