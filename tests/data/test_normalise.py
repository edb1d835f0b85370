"""Presets by name, and statistics of a training list."""

import numpy as np
import pytest
import torch

from python_models.data import PRESETS, DataError, compute_normalisation, normalisation_preset


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


def test_presets():
    assert normalisation_preset("NUAA-SIRST") == ((101.06385 / 255,), (34.61961 / 255,))
    assert normalisation_preset("ImageNet")[0] == (0.485, 0.456, 0.406)
    assert len(PRESETS) == 7 and all(0 < s < m < 255 for m, s in PRESETS.values())
    with pytest.raises(DataError, match="name must be one of NUAA-SIRST, .*ImageNet, got 'nuaa'"):
        normalisation_preset("nuaa")
