"""Presets by name, and statistics of a training list."""

import numpy as np
import pytest
import torch

from python_models.data import PRESETS, DataError, SyntheticDataset, compute_normalisation, normalisation_preset, read_image
from python_models.data.normalise import PRESET_NAMES, normalisation


class Images(torch.utils.data.Dataset):
    def __init__(self, images, part="train"):
        self.images, self.part = images, part

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": self.images[i]}


def random_images(seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.rand(1, h, w, generator=g) ** k for k, (h, w) in enumerate([(5, 7), (30, 4), (11, 11), (1, 2)], 1)]


def test_pooled_over_all_pixels():
    images = random_images()
    flat = torch.cat([i.flatten() for i in images]).double().numpy()
    mean, std = compute_normalisation(Images(images))
    assert abs(mean - flat.mean()) < 1e-12 and abs(std - flat.std()) < 1e-12
    per_image = np.mean([i.double().numpy().mean() for i in images]), np.mean([i.double().numpy().std() for i in images])
    assert abs(mean - per_image[0]) > 1e-3 and abs(std - per_image[1]) > 1e-3


def test_order_changes_no_bit():
    images = random_images()
    assert compute_normalisation(Images(images)) == compute_normalisation(Images(images[::-1]))


@pytest.mark.parametrize("part", ["test", "val"])
def test_only_training_images(part):
    with pytest.raises(DataError, match=f"statistics come from training images only, got part '{part}'"):
        compute_normalisation(Images(random_images(), part))


def test_no_scale():
    with pytest.raises(DataError, match="all pixels of the set are equal"):
        compute_normalisation(Images([torch.full((1, 3, 3), 0.5)] * 2))
    with pytest.raises(DataError, match="holds no image"):
        compute_normalisation(Images([]))


PUBLISHED = {  # mean and deviation as the papers' code has them, on the 0..255 scale
    "NUAA-SIRST": (101.06385, 34.61961), "NUDT-SIRST": (107.80905, 33.02275), "IRSTD-1K": (87.46619, 39.71953), "NUDT-SIRST-Sea": (43.62404, 18.91838),
    "SIRST4": (62.10432, 23.96998), "IRDST-real": (101.54053, 56.49856), "LimitIRSTD-track2": (64.21671, 24.50886)}


def test_presets():
    assert PRESETS == PUBLISHED and PRESET_NAMES == (*PUBLISHED, "ImageNet")
    for name, (mean, std) in PUBLISHED.items():
        assert normalisation_preset(name) == ((mean / 255,), (std / 255,))
    assert normalisation_preset("ImageNet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(DataError, match="name must be one of NUAA-SIRST, .*ImageNet, got 'nuaa'"):
        normalisation_preset("nuaa")


def test_what_a_checkpoint_stores():
    assert normalisation("SIRST4", None) == {"mean": [62.10432 / 255], "std": [23.96998 / 255], "of": "preset SIRST4"}
    train = SyntheticDataset(3, size=32, seed=2)
    stored = normalisation("data", train)
    assert (stored["mean"], stored["std"]) == tuple([x] for x in compute_normalisation(train))
    assert stored["of"] == f"3 images of synth/train (hash {train.split_hash}), pooled pixels"
    assert normalisation("data", Images(random_images()))["of"] == "4 images, pooled pixels"
    with pytest.raises(DataError, match="training images only, got part 'test'"):
        normalisation("data", SyntheticDataset(3, size=32, part="test"))


def test_published_pair_is_not_a_property_of_the_real_set(real_data):
    """All 427 files: mean of the images' means 112 (111.98 where colour is weighted to luma), of their deviations 27.63, pooled deviation 57.5."""
    files = sorted((real_data("NUAA-SIRST") / "images").glob("*.png"))
    arrays = [255 * read_image(path).astype(np.float64) for path in files]
    mean, std = compute_normalisation(Images([torch.from_numpy(a / 255) for a in arrays]))
    assert len(files) == 427 and abs(np.mean([a.mean() for a in arrays]) - 111.98) < 0.1 and round(np.mean([a.std() for a in arrays]), 2) == 27.63
    assert round(255 * std, 1) == 57.5 and abs(255 * std - 34.61961) > 20 and abs(255 * mean - 101.06385) > 5
