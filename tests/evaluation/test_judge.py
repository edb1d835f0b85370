"""Judging: sizes, thresholds, protocols, independence of order; the top-hat baseline; the pictures."""
import doctest
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from python_models import build_model
from python_models.baselines import TopHat
from python_models.data import open_dataset
from python_models.evaluation import evaluate, table
from python_models.inference import network_scorer, predict_logits
from python_models.viz import FOUND, TRUE, contact_sheet, overlay, plot_curves, to_grey8
from irstd_ext import targets


def samples(sizes=((40, 60), (33, 31), (64, 64))):
    out = []
    for i, (h, w) in enumerate(sizes):
        mask = torch.zeros(1, h, w)
        mask[0, 10 + i : 13 + i, 20:23] = 1
        out.append({"image": 0.2 + 0.7 * mask, "mask": mask, "name": str(i)})
    return out


def perfect(image):
    return 20 * (image[0] - 0.5)


@pytest.mark.parametrize("module", ["assessment", "folder", "judge", "predictions", "seeds", "spool", "text"])
def test_examples_run(module):
    result = doctest.testmod(import_module(f"python_models.evaluation.{module}"))
    assert result.attempted and not result.failed


def test_perfect_scorer_and_silent_scorer():
    result = evaluate(perfect, samples(), ("exact", "legacy"))
    assert all((r["IoU"], r["nIoU"], r["Pd"], r["Fa"]) == (1, 1, 1, 0) for r in result.values())
    silent = evaluate(lambda image: image[0] - 1, samples())["exact"]
    assert (silent["IoU"], silent["Pd"], silent["Fa"]) == (0, 0, 0)


def test_images_are_judged_at_their_own_size_unless_told():
    assert evaluate(perfect, samples())["exact"]["pixels"] == 40 * 60 + 33 * 31 + 64 * 64
    assert evaluate(perfect, samples(), eval_size=32)["exact"]["pixels"] == 3 * 32 * 32


def test_threshold_is_a_strict_probability():
    def scorer(image):
        return torch.where(image[0] > 0.5, 1.0, -1.0)  # probabilities 0.731 and 0.269

    assert evaluate(scorer, samples(), threshold=0.73)["exact"]["IoU"] == 1
    assert evaluate(scorer, samples(), threshold=0.74)["exact"]["TP"] == 0
    assert evaluate(scorer, samples(), threshold=0.26)["exact"]["FP"] > 0


def test_order_changes_nothing():
    net = build_model("sgem_unet", "tiny", "reference", attention="linear").eval()
    assert evaluate(network_scorer(net), samples()) == evaluate(network_scorer(net), samples()[::-1])


def test_fixed_size_network_answers_at_the_size_of_the_image():
    net = build_model("sgem_unet", "tiny", "reference", input_size=32).eval()
    sizes = []
    net.register_forward_pre_hook(lambda _, x: sizes.append(tuple(x[0].shape[-2:])))
    assert predict_logits(net, torch.rand(1, 50, 71)).shape == (50, 71)
    assert predict_logits(net, torch.rand(1, 32, 32)).shape == (32, 32)
    assert sizes == [(32, 32), (32, 32)]


def test_free_size_network_sees_the_image_as_it_is():
    net = build_model("sgem_unet", "tiny", "reference", attention="linear").eval()
    image = torch.rand(1, 50, 71)
    with torch.no_grad():
        expected = net(net.preprocess(image[None]))["logits"][0, 0]
    assert torch.equal(predict_logits(net, image), expected)


def test_table_shows_percent_and_parts_per_million():
    lines = table({"net": {"IoU": 0.5, "nIoU": None, "Pd": 1.0, "Fa": 12.5e-6}}).splitlines()
    assert lines[1].split() == ["net", "50.00", "nan", "100.00", "12.50"]


@pytest.mark.parametrize("size", [3, 9])
def test_top_hat_is_scipys(size):
    image = torch.rand(1, 40, 31, generator=torch.Generator().manual_seed(0))
    x = image[0].double().numpy()
    response = x - ndimage.grey_dilation(ndimage.grey_erosion(x, (size, size), mode="nearest"), (size, size), mode="nearest")
    expected = (response - response.mean()) / response.std()
    assert np.abs(TopHat(size).contrast(image).numpy() - expected).max() < 1e-4
    assert np.abs(TopHat(size + 2).contrast(image).numpy() - expected).max() > 1e-2


def test_top_hat_on_flat_images_and_wrong_sizes():
    assert not (TopHat()(torch.full((1, 20, 20), 0.3)) > 0).any()
    with pytest.raises(ValueError, match="size must be odd and >= 3, got 4"):
        TopHat(4)


def test_top_hat_fit_is_no_worse_than_any_other_choice_on_its_list(data):
    dataset = open_dataset(data, "synth", "train")
    fitted = TopHat.fit(dataset, sizes=(5, 9))

    def iou(scorer):
        return evaluate(scorer, dataset)["exact"]["IoU"]

    best = iou(fitted)
    assert best > 0.1
    assert all(best >= iou(TopHat(size, k)) - 1e-6 for size in (5, 9) for k in (2.0, 4.0, 8.0, 16.0))


def test_overlay_boxes_lie_around_the_targets():
    picture = np.asarray(overlay(np.zeros((40, 60)), found=[(20, 10, 3, 3)], true=[(40, 20, 2, 2)]))
    red, green = (picture == FOUND).all(2), (picture == TRUE).all(2)
    assert red[7, 17] and red[15, 25] and not red[8:15, 18:25].any()
    assert green[15, 35] and green[26, 46] and not green[16:26, 36:46].any()


def test_grey8_stretches_and_takes_flat_images():
    assert (to_grey8(np.full((8, 8), 0.3)) == 0).all()
    ramp = to_grey8(np.linspace(0.4, 0.5, 100).reshape(10, 10))
    assert ramp.min() == 0 and ramp.max() == 255


def test_contact_sheet_fits_pictures_of_any_size():
    sheet = contact_sheet([(Image.new("RGB", size, (200, 0, 0)), "x") for size in ((30, 20), (500, 900), (64, 64))], columns=2, side=64)
    assert sheet.size == (2 * 68 + 4, 2 * 86 + 4)
    with pytest.raises(ValueError, match="must hold a picture"):
        contact_sheet([])


def test_curve_plot_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `viz` is not installed")
    score = np.zeros((20, 20))
    score[5, 5], score[15, 15] = 0.9, 0.6
    plot_curves({"a": targets.curve(score, score > 0.8)}, tmp_path / "c.png", {"a": (0.0, 1.0)})
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG" and len(picture.convert("RGB").getcolors(1 << 24)) > 10
