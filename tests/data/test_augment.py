"""Image and mask stay together; small targets survive; one seed, one result."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from python_models.data import Augment, DataError
from python_models.data.augment import Draw

EIGHT = np.ones((3, 3))


def sample(height=90, width=120, seed=0, targets=6):
    g = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.float32)
    for _ in range(targets):
        r, c = g.integers(0, height - 3), g.integers(0, width - 3)
        mask[r : r + g.integers(1, 4), c : c + g.integers(1, 4)] = 1
    image = torch.from_numpy(g.random((1, height, width), np.float32))
    return {"image": image, "mask": torch.from_numpy(mask)[None], "name": "x"}


def gen(seed):
    return torch.Generator().manual_seed(seed)


def test_shape_range_and_passing_through():
    for height, width in ((90, 120), (20, 300), (300, 20), (1, 1), (64, 64)):
        out = Augment(size=64, blur=1.0)(sample(height + 3, width + 3), gen(1))
        assert out["image"].shape == out["mask"].shape == (1, 64, 64) and out["name"] == "x"
        assert set(out["mask"].unique().tolist()) <= {0.0, 1.0} and 0 <= out["image"].min() and out["image"].max() <= 1


def test_same_seed_same_result_and_input_untouched():
    augment, source = Augment(size=64, blur=0.5), sample()
    before = {k: v.clone() for k, v in source.items() if k != "name"}
    one, two, other = (augment(source, gen(s)) for s in (3, 3, 4))
    assert torch.equal(one["image"], two["image"]) and torch.equal(one["mask"], two["mask"])
    assert not torch.equal(one["image"], other["image"])
    one["image"].fill_(0)
    assert all(torch.equal(source[k], before[k]) for k in before)


@pytest.mark.parametrize("seed", range(12))
def test_image_and_mask_move_together(seed):
    source = sample()
    source["image"] = source["mask"].clone()
    out = Augment(size=96, scale=(1.0, 1.0))(source, gen(seed))
    assert torch.equal(out["image"], out["mask"])
    squares = torch.zeros(1, 90, 120)
    for r, c in ((10, 12), (40, 90), (60, 30)):
        squares[:, r : r + 20, c : c + 20] = 1
    scaled = Augment(size=96, positive=1.0)({"image": squares, "mask": squares.clone()}, gen(seed))
    assert _iou(scaled["image"] > 0.5, scaled["mask"] > 0) > 0.9 > _iou(scaled["image"] > 0.5, scaled["mask"].roll(2, 2) > 0)


def _iou(one, two):
    return ((one & two).sum() / (one | two).sum()).item()


@pytest.mark.parametrize("flip_rows, flip_cols, transpose", [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_flips_and_transpose_are_exact(flip_rows, flip_cols, transpose):
    source = sample()
    base = Draw(5, 9, 64, False, False, False, 0.0)
    draw = dataclasses.replace(base, flip_rows=bool(flip_rows), flip_cols=bool(flip_cols), transpose=bool(transpose))
    augment = Augment(size=48)
    plain, got = augment.apply(source, base), augment.apply(source, draw)
    for key in ("image", "mask"):
        want = plain[key].flip([d for d, f in ((1, flip_rows), (2, flip_cols)) if f])
        assert torch.equal(got[key], want.transpose(1, 2) if transpose else want)


@pytest.mark.parametrize("size", [40, 64, 90])
def test_resizing_commutes_with_flip_and_transpose(size):
    source = sample(63, 63, seed=4)  # odd: nearest sampling never meets a half-way point
    augment, whole = Augment(size=size), Draw(0, 0, 63, False, False, False, 0.7)
    plain = augment.apply(source, whole)
    for turn in (lambda x: x.flip(1), lambda x: x.flip(2), lambda x: x.transpose(1, 2)):
        turned = augment.apply({k: turn(source[k]) for k in ("image", "mask")}, whole)
        assert (turned["image"] - turn(plain["image"])).abs().max() < 2e-6
        assert torch.equal(turned["mask"], turn(plain["mask"]))
    assert (plain["image"] - plain["image"].flip(2)).abs().max() > 2e-6


def test_window_inside_is_a_plain_crop_and_outside_reflects():
    source = sample()
    augment = Augment(size=32)
    inside = augment.apply(source, Draw(10, 20, 32, False, False, False, 0.0))
    assert torch.equal(inside["image"], source["image"][:, 10:42, 20:52])
    outside = augment.apply(source, Draw(-5, 100, 32, False, False, False, 0.0))
    padded = np.pad(source["image"].numpy(), ((0, 0), (5, 0), (0, 12)), mode="reflect")
    assert np.array_equal(outside["image"].numpy(), padded[:, :32, 100:132])


def test_window_much_larger_than_the_image():
    tiny = sample(7, 9)
    out = Augment(size=64).apply(tiny, Draw(-30, -20, 64, False, False, False, 0.0))
    padded = np.pad(tiny["mask"].numpy(), ((0, 0), (30, 27), (20, 35)), mode="reflect")
    assert np.array_equal(out["mask"].numpy(), padded)


def test_positive_bias():
    source = sample(400, 400, targets=1)
    share = {p: np.mean([bool(Augment(size=64, scale=(1.0, 1.0), positive=p)(source, gen(s))["mask"].any()) for s in range(60)]) for p in (0.0, 1.0)}
    assert share[1.0] == 1.0 and share[0.0] < 0.3
    empty = {**source, "mask": torch.zeros_like(source["mask"])}
    assert Augment(size=64, positive=1.0)(empty, gen(0))["mask"].sum() == 0


def test_small_targets_survive_shrinking():
    g = np.random.default_rng(7)
    lost = {"keep": 0, "nearest": 0}
    for _ in range(80):
        mask = np.zeros((100, 100), np.float32)
        r, c = g.integers(10, 85, 2)
        mask[r, c] = mask[r, c + 1] = mask[r + 1, c] = g.integers(0, 2)
        mask[r, c] = 1
        source = {"image": torch.zeros(1, 100, 100), "mask": torch.from_numpy(mask)[None]}
        for rule in lost:
            out = Augment(size=50, mask_resize=rule).apply(source, Draw(0, 0, 100, False, False, False, 0.0))
            lost[rule] += not out["mask"].any()
    assert lost["keep"] == 0 and lost["nearest"] > 10


def test_keeping_adds_no_target_and_no_border():
    for seed in range(20):
        source = sample(100, 100, seed=seed)
        before = ndimage.label(source["mask"][0].numpy(), EIGHT)[1]
        keep, nearest = (Augment(size=55, mask_resize=m).apply(source, Draw(0, 0, 100, False, False, False, 0.0))["mask"] for m in ("keep", "nearest"))
        assert ndimage.label(keep[0].numpy(), EIGHT)[1] <= before and (keep >= nearest).all()
    large = {"image": torch.zeros(1, 100, 100), "mask": torch.zeros(1, 100, 100)}
    large["mask"][:, 21:58, 33:71] = 1
    keep, nearest = (Augment(size=55, mask_resize=m).apply(large, Draw(0, 0, 100, False, False, False, 0.0))["mask"] for m in ("keep", "nearest"))
    assert torch.equal(keep, nearest)


def test_blur_matches_scipy():
    source = sample()
    out = Augment(size=64).apply(source, Draw(3, 4, 64, False, False, False, 0.8))
    crop = source["image"][0, 3:67, 4:68].double().numpy()
    want = ndimage.gaussian_filter(crop, 0.8, mode="nearest", radius=3)
    assert abs(out["image"][0].numpy() - want).max() < 2e-6 < abs(crop - want).max()


def test_noise_is_gaussian_of_the_drawn_sigma():
    flat = {"image": torch.full((1, 256, 256), 0.5), "mask": torch.zeros(1, 256, 256)}
    sigmas = []
    for seed in range(20):
        augment = Augment(size=256, scale=(1.0, 1.0), noise=1.0, noise_sigma=(0.01, 0.05))
        draw = augment.draw(flat["mask"], gen(seed))
        out = augment.apply(flat, draw)
        z = ((out["image"] - 0.5) / draw.noise_sigma).double().flatten().numpy()
        # 65536 values: mean within 5 / 256, deviation within 5 / 362, excess within 5 * sqrt(24) / 256
        assert abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.014 and abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 0.02
        assert abs((z**4).mean() / z.var() ** 2 - 3) < 0.1
        uniform = z.std() * 3**0.5 * np.random.default_rng(seed).uniform(-1, 1, z.size)
        assert abs((uniform**4).mean() / uniform.var() ** 2 - 3) > 0.1  # negative control: another law
        sigmas.append(draw.noise_sigma)
        assert torch.equal(out["mask"], flat["mask"])
    assert 0.01 <= min(sigmas) < 0.02 and 0.04 < max(sigmas) <= 0.05


def test_noise_comes_as_often_as_asked_and_only_then():
    source = sample()
    shown = [Augment(size=32, noise=0.3).draw(source["mask"], gen(seed)).noise_sigma > 0 for seed in range(400)]
    assert 0.2 < np.mean(shown) < 0.4
    for seed in range(5):
        plain, noisy = (Augment(size=32, noise=p).apply(source, Augment(size=32, noise=p).draw(source["mask"], gen(seed))) for p in (0.0, 1.0))
        assert torch.equal(plain["mask"], noisy["mask"]) and not torch.equal(plain["image"], noisy["image"])
        assert (plain["image"] - noisy["image"]).abs().max() < 6 * 0.02  # the rest of the choices stayed


def test_noise_stays_at_black_and_full_scale():
    ends = {"image": (torch.arange(64 * 64) % 2).float().view(1, 64, 64), "mask": torch.zeros(1, 64, 64)}
    out = Augment(size=64).apply(ends, Draw(0, 0, 64, False, False, False, 0.0, noise_sigma=0.1, noise_seed=1))["image"]
    assert out.min() == 0 and out.max() == 1 and 0.4 < (out == ends["image"]).float().mean() < 0.6


def test_noise_commutes_with_flips_and_is_its_own_seed():
    source = sample(64, 64)
    base = Draw(0, 0, 64, False, False, False, 0.0, noise_sigma=0.05, noise_seed=5)
    augment = Augment(size=64)
    plain, turned = (augment.apply(source, d)["image"] for d in (base, dataclasses.replace(base, flip_cols=True, transpose=True)))
    assert torch.equal(turned, plain.flip(2).transpose(1, 2))
    assert not torch.equal(plain, augment.apply(source, dataclasses.replace(base, noise_seed=6))["image"])


@pytest.mark.parametrize("options", [{}, {"blur": 1.0, "noise": 1.0}, {"positive": 0.0, "flip": False}])
def test_the_count_of_random_numbers_is_always_the_same(options):
    states = []
    for source in (sample(), sample(20, 300), sample(targets=0)):
        g = gen(1)
        Augment(size=32, **options)(source, g)
        states.append(g.get_state())
    fresh = gen(1)
    torch.rand(13, generator=fresh, dtype=torch.float64)
    assert all(torch.equal(s, fresh.get_state()) for s in states) and not torch.equal(fresh.get_state(), gen(1).get_state())


def test_whole_images_become_squares_first():
    """Resized without their shape, then scaled and cropped as any square; a target of few pixels is kept."""
    image, mask = torch.rand(1, 90, 150), torch.zeros(1, 90, 150)
    mask[0, 40:42, 70:72] = 1
    plain = {"flip": False, "transpose": False, "scale": (1.0, 1.0)}
    out = Augment(size=48, resize=48, **plain)({"image": image, "mask": mask}, gen(0))
    assert torch.equal(out["image"], F.interpolate(image[None], (48, 48), mode="bilinear", antialias=True)[0].clamp(0, 1))
    assert out["mask"].sum() >= 1 and abs(out["mask"][0].nonzero().double().mean(0) - torch.tensor([41 * 48 / 90, 71 * 48 / 150])).max() < 1.5
    window = Augment(size=24, resize=48, **plain)({"image": image, "mask": mask}, gen(0))["image"]
    assert window.shape == (1, 24, 24) and any(torch.equal(window, out["image"][:, r : r + 24, c : c + 24]) for r in range(25) for c in range(25))
    assert not torch.equal(Augment(size=48, **plain)({"image": image, "mask": mask}, gen(0))["image"], out["image"])


def test_scales_follow_their_law():
    mask = torch.zeros(1, 400, 400)
    found = {law: np.array([100 / Augment(size=100, scale=(0.5, 2.0), scale_law=law).draw(mask, gen(s)).window for s in range(400)]) for law in ("log", "uniform")}
    assert abs((found["log"] < 1).mean() - 1 / 2) < 0.08 and abs((found["uniform"] < 1).mean() - 1 / 3) < 0.08
    assert all(0.49 < v.min() < 0.53 and 1.9 < v.max() < 2.05 for v in found.values())


@pytest.mark.parametrize("options, rule", [
    ({"size": 0}, "size must be >= 1, got 0"), ({"resize": 0}, "resize must be >= 1, got 0"), ({"scale_law": "normal"}, "scale_law must be one of log, uniform"), ({"scale": (2.0, 0.5)}, "scale must be a range"), ({"scale": (0.0, 1.0)}, "scale must be a range"),
    ({"positive": 1.5}, "positive must be a probability"), ({"noise": -0.1}, "noise must be a probability"),
    ({"noise_sigma": (0.0, 0.1)}, "noise_sigma must be a range"), ({"mask_resize": "area"}, "mask_resize must be one of keep, nearest"),
])
def test_options_are_checked(options, rule):
    with pytest.raises(DataError, match=f"Augment: {rule}"):
        Augment(**options)
