"""Copy-paste: a bank of training images only, pastes that keep contrast, distance, range and counts."""
import dataclasses
import doctest
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from irstd_ext import targets
from python_models.data import DataError, SyntheticDataset, open_dataset, split_hash
from python_models.data.augment import Augment, CopyPaste, Cut, TargetBank, copy_paste
from python_models.data.augment.ring import target_and_ring

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
EIGHT = np.ones((3, 3))


class Listed:
    """A data set of given samples."""

    def __init__(self, samples, part="train"):
        self.samples, self.part = samples, part
        self.names = [s["name"] for s in samples]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, k):
        return self.samples[k]


def gen(seed):
    return torch.Generator().manual_seed(seed)


def scene(seed, shape=(60, 70), n=3, level=0.4, noise=0.01):
    """A noisy slope with bright targets of 1 to 25 px, some of which touch."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(n):
        row, col = rng.integers(0, shape)
        mask[row:row + rng.integers(1, 6), col:col + rng.integers(1, 6)] = True
    image = level + noise * rng.normal(size=shape) + 0.1 * np.linspace(0, 1, shape[1]) + 0.3 * mask
    planes = (torch.from_numpy(x.astype(np.float32))[None] for x in (np.clip(image, 0, 1), mask))
    return {**dict(zip(("image", "mask"), planes)), "name": f"s{seed}"}


BANK = TargetBank.collect(Listed([scene(seed) for seed in range(8)]))


def count(sample):
    return ndimage.label(sample["mask"][0].numpy(), EIGHT)[1]


def test_a_bank_holds_every_target_of_its_list():
    train = SyntheticDataset(6, size=96, seed=3)
    bank = TargetBank.collect(train)
    assert len(bank) == sum(len(targets.regions(train[k]["mask"][0])) for k in range(6)) > 3
    assert bank.names == tuple(train.names) and bank.split_hash == train.split_hash and bank.part == "train"
    assert {c.name for c in bank.cuts} <= set(train.names)
    areas = [r.area for k in range(6) for r in targets.regions(train[k]["mask"][0])]
    assert [int(c.mask.sum()) for c in bank.cuts] == areas
    assert [c.name for c in TargetBank.collect(train, limit=2).cuts] == [c.name for c in bank.cuts[:2]]
    assert TargetBank.collect(train, limit=2).split_hash == split_hash(train.names)


@pytest.mark.parametrize("part", ["test", "val", None, "all"])
def test_a_bank_takes_training_lists_only(part):
    with pytest.raises(DataError, match=f"TargetBank.collect: targets come from named training lists only, got part {part!r}"):
        TargetBank.collect(Listed([scene(0)], part))


def test_a_bank_refuses_forbidden_names():
    train, test = Listed([scene(k) for k in range(4)]), Listed([scene(k) for k in range(3, 6)], "test")
    with pytest.raises(DataError, match="must share no name with the forbidden list, got s3$"):
        TargetBank.collect(train, never=test.names)
    assert len(TargetBank.collect(train, never=test.names[1:])) > 0
    with pytest.raises(DataError, match="limit must be >= 1, got 0"):
        TargetBank.collect(train, limit=0)


def test_a_cut_is_the_target_over_its_ring():
    source = scene(1)
    image, mask = source["image"][0].double().numpy(), source["mask"][0].numpy() > 0.5
    cuts = TargetBank.collect(Listed([source])).cuts
    for region, cut in zip(targets.regions(mask), cuts, strict=True):
        window, target, ring = target_and_ring(mask, region)
        level = image[window][ring].mean()
        assert np.allclose(cut.values[cut.mask], image[window][target] - level, rtol=0, atol=1e-12)
        assert abs(cut.contrast - (image[window][target].mean() - level)) < 1e-12 < abs(cut.contrast - (image[window][target].mean() - image.mean()))
        assert cut.mask.shape == (region.box[3] + 6, region.box[2] + 6) and not cut.mask[:3].any() and not cut.mask[:, -3:].any()
        near = ndimage.binary_dilation(cut.mask, EIGHT, 3)
        assert (cut.values[~cut.mask] >= 0).all() and not cut.values[~near].any()


def test_the_skirt_fades_and_leaves_other_targets_out():
    image, mask = np.full((40, 40), 0.2), np.zeros((40, 40), bool)
    mask[20, 20] = mask[20, 22] = True
    image[15:26, 15:26] = 0.6  # a plateau: the skirt of both
    sample = {"image": torch.from_numpy(image)[None], "mask": torch.from_numpy(mask)[None], "name": "x"}
    left = TargetBank.collect(Listed([sample])).cuts[0]
    rise = left.values[3, 3]
    assert np.allclose(left.values[3, :4] / rise, [0.25, 0.5, 0.75, 1])
    assert left.values[3, 4:].tolist() == [0, 0, 0]  # beside and under the other target
    dark = TargetBank.collect(Listed([{**sample, "image": 1 - sample["image"]}])).cuts[0]
    assert np.allclose(dark.values, -left.values) and dark.contrast < 0 < left.contrast


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from([(60, 70), (20, 64), (9, 9), (5, 40), (256, 30)]))
def test_pastes_are_exactly_what_they_say(seed, most, shape):
    """Components, mask, gap, contrast, range: everything promised, on random scenes."""
    source = scene(seed, shape)
    kept = {k: source[k].clone() for k in ("image", "mask")}
    paste = CopyPaste(BANK, probability=1.0, max_targets=most)
    out, pasted = paste.paste(source, gen(seed))
    assert all(torch.equal(source[k], kept[k]) for k in kept) and out["name"] == source["name"]
    assert len(pasted) <= most and count(out) == count(source) + len(pasted)
    before, after = source["mask"][0].numpy() > 0, out["mask"][0].numpy() > 0
    assert set(np.unique(out["mask"])) <= {0.0, 1.0} and (after >= before).all()
    assert after.sum() - before.sum() == sum(BANK.cuts[p.cut].mask.sum() for p in pasted)
    labels, n = ndimage.label(after, EIGHT)
    for k in range(1, n + 1):
        own = labels == k
        if not before[own].any():  # pasted: nothing else within 3 px, nothing of it in an old target
            assert not (ndimage.binary_dilation(own, EIGHT, 3) & after & ~own).any()
    assert torch.equal(out["image"][0][before], source["image"][0][before])  # old targets keep every value
    assert 0 <= out["image"].min() and out["image"].max() <= max(1.0 - 1e-6, source["image"].max())
    assert out["image"].dtype == out["mask"].dtype == torch.float32


def test_contrast_is_kept_times_the_strength():
    paste, seen = CopyPaste(BANK, probability=1.0, max_targets=1, strength=(0.8, 1.2)), []
    for seed in range(40):
        source = scene(seed, n=1)
        out, pasted = paste.paste(source, gen(seed))
        for p in pasted:
            new = (out["mask"] > source["mask"])[0]
            rise = (out["image"] - source["image"])[0][new].double().mean().item()
            assert abs(rise - p.strength * BANK.cuts[p.cut].contrast) < 1e-6
            assert 0.8 <= p.strength <= 1.2
            seen.append(p.strength)
    assert len(seen) > 30 and min(seen) < 0.9 and max(seen) > 1.1


def test_nothing_saturates_where_there_is_little_room():
    """Room for 0.25: a rise of 0.3 must be weakened to less than 0.98 of it, and where even the weakest does not fit, nothing is pasted."""
    for level, fits in ((0.75, True), (0.97, False)):
        source = {"image": torch.full((1, 50, 50), level), "mask": torch.zeros(1, 50, 50)}
        outs = [CopyPaste(BANK, 1.0, strength=(0.5, 2.0)).paste(source, gen(seed)) for seed in range(20)]
        assert any(pasted for _, pasted in outs) == fits
        assert all(out["image"].max() < 1 and count(out) == len(pasted) for out, pasted in outs)
        assert max((p.strength for _, pasted in outs for p in pasted), default=0) < 2  # negative control: the range alone would allow it
    dark = dataclasses.replace(BANK, cuts=tuple(Cut(-c.values, c.mask, -c.contrast, c.name) for c in BANK.cuts))
    black = {"image": torch.full((1, 50, 50), 0.02), "mask": torch.zeros(1, 50, 50)}
    assert not any(CopyPaste(dark, 1.0).paste(black, gen(seed))[1] for seed in range(10))
    assert all(CopyPaste(dark, 1.0).paste({**black, "image": black["image"] + 0.5}, gen(seed))[1] for seed in range(10))


def test_targets_stand_out_from_the_background_they_cover():
    """A target of 0.3 is not pasted where the background varies by 0.3, unless that is asked for."""
    rng = np.random.default_rng(0)
    rough = {"image": torch.from_numpy(np.where(rng.random((1, 60, 60)) < 0.5, 0.1, 0.6).astype(np.float32)), "mask": torch.zeros(1, 60, 60)}
    assert not any(CopyPaste(BANK, 1.0, strength=(0.5, 1.0), visible=1.5).paste(rough, gen(seed))[1] for seed in range(10))
    assert all(CopyPaste(BANK, 1.0, strength=(0.5, 1.0), visible=0.0).paste(rough, gen(seed))[1] for seed in range(10))


@pytest.mark.parametrize("most", [1, 3])
def test_one_seed_one_result_and_always_as_many_random_numbers(most):
    paste, states = CopyPaste(BANK, probability=0.5, max_targets=most), set()
    for source in (scene(1), scene(2, (9, 9)), scene(3, (5, 5)), scene(4, n=0)):
        for seed in range(6):
            g = gen(seed)
            one, two = paste(source, g), paste(source, gen(seed))
            assert all(torch.equal(one[k], two[k]) for k in ("image", "mask"))
            fresh = gen(seed)
            torch.rand(2 + 15 * most, generator=fresh, dtype=torch.float64)
            states.add(torch.equal(g.get_state(), fresh.get_state()))
    assert states == {True}
    assert not torch.equal(paste(scene(1), gen(0))["mask"], CopyPaste(BANK, 1.0, 3)(scene(1), gen(7))["mask"])


def test_probability_and_number():
    numbers = [len(CopyPaste(BANK, 0.3, 3).paste(scene(1), gen(seed))[1]) for seed in range(300)]
    assert 0.2 < np.mean([n > 0 for n in numbers]) < 0.4 and set(numbers) == {0, 1, 2, 3}
    source = scene(1)
    assert CopyPaste(BANK, 0.0)(source, gen(0)) is source


def test_flips_and_transposes_all_come():
    bar = np.zeros((12, 9))
    bar[3:9, 3:6] = np.arange(1, 19).reshape(6, 3) / 40
    bank = TargetBank((Cut(bar, bar > 0, float(bar[bar > 0].mean()), "x"),), "train", ("x",), "0")
    flat, seen = {"image": torch.full((1, 40, 40), 0.2), "mask": torch.zeros(1, 40, 40)}, set()
    for seed in range(60):
        out = CopyPaste(bank, 1.0, 1, strength=(1.0, 1.0)).paste(flat, gen(seed))[0]
        rows, cols = np.nonzero(out["mask"][0].numpy())
        box = (out["image"][0].numpy() - 0.2)[rows.min():rows.max() + 1, cols.min():cols.max() + 1]
        seen.add(np.round(box * 40).astype(int).tobytes() + bytes(box.shape))
    assert len(seen) == 8


def test_before_augment_and_in_another_process():
    source, paste, augment = scene(1), CopyPaste(BANK, 1.0), Augment(size=48)
    one, two = (augment(p(source, g), g) for p, g in ((paste, gen(3)), (pickle.loads(pickle.dumps(paste)), gen(3))))
    assert torch.equal(one["image"], two["image"]) and one["image"].shape == (1, 48, 48)


@pytest.mark.parametrize("options, rule", [
    ({"probability": 1.1}, "probability must lie in"), ({"max_targets": 0}, "max_targets must be >= 1"), ({"strength": (0.0, 1.0)}, "strength must be a range"),
    ({"visible": -1.0}, "visible must be >= 0"), ({"bank": TargetBank((), "train", ("a",), "0")}, "bank must hold a target, got none")])
def test_options_are_checked(options, rule):
    with pytest.raises(DataError, match=f"CopyPaste: {rule}"):
        CopyPaste(**{"bank": BANK, **options})


@pytest.mark.skipif(not os.environ.get("IRSTD_DATA"), reason="IRSTD_DATA is not set: real images are tested only where that folder is given")
@pytest.mark.filterwarnings("ignore::python_models.data.DataWarning")
def test_the_bank_of_the_real_set(real_data):
    root = real_data("NUAA-SIRST")
    train = open_dataset(root, "50_50", "train")
    test = open_dataset(root, "50_50", "test")
    bank = TargetBank.collect(train, never=test.names)
    assert len(bank) == sum(len(targets.regions(train[k]["mask"][0])) for k in range(len(train))) and not {c.name for c in bank.cuts} & set(test.names)
    with pytest.raises(DataError, match="must share no name with the forbidden list"):  # 172 images stand on both lists
        TargetBank.collect(open_dataset(root, "idx_427", "trainval"), never=test.names)
    with pytest.raises(DataError, match="training lists only, got part 'test'"):
        TargetBank.collect(test)
    made = [CopyPaste(bank, 1.0).paste(train[k], gen(k)) for k in range(0, 60, 3)]
    assert sum(len(pasted) for _, pasted in made) > 20 and all(0 <= s["image"].min() and s["image"].max() <= 1 for s, _ in made)


def test_docstring_examples():
    result = doctest.testmod(copy_paste)
    assert result.failed == 0 and result.attempted >= 5
