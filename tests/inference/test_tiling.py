"""Tiles: what they cover, that they equal the whole image where the network is local enough, and how much is held at once."""
import pytest
import torch

from python_models import build_model
from python_models.inference import Predictor, predict_logits
from python_models.inference.tiling import spans

TOLERANCE = 1e-5  # of the range of the logits: other image sizes, other convolution kernels


def rand(*shape, seed=0):
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def error(got, expected):
    return ((got - expected).abs().max() / (expected.max() - expected.min())).item()


@pytest.mark.parametrize("length", [1, 7, 31, 32, 33, 64, 100, 257])
@pytest.mark.parametrize("tile, halo, overlap, stride, least, window", [
    (32, 0, 0, 1, 1, None), (32, 9, 0, 4, 4, None), (20, 5, 10, 16, 16, None), (7, 3, 2, 32, 1, None), (1, 0, 0, 8, 16, None),
    (32, 0, 16, 1, 1, 32), (24, 4, 0, 1, 1, 32),
])
def test_cores_cover_the_axis_and_windows_hold_them(length, tile, halo, overlap, stride, least, window):
    found = spans(length, tile, halo, overlap, stride, least, window)
    total = torch.zeros(length)
    for s in found:
        assert s.low - s.start >= (0 if s.start == 0 or window else halo) and s.start <= s.low < s.high <= min(s.stop, length)
        assert s.high - s.low <= tile and len(s.weight) == s.high - s.low
        if window:
            assert s.stop - s.start == window and (s.stop <= length or s.start == 0)
        else:
            assert s.start % stride == 0 and (s.stop % stride == 0 or s.stop == length) and s.stop <= length
            assert s.stop == length or s.stop - s.high >= halo
            assert s.stop - s.start >= min(least, length)
        total[s.low : s.high] += s.weight
    assert (total - 1).abs().max() < 1e-6
    assert found[0].low == 0 and found[-1].high == length
    assert all(a.high - b.low == overlap for a, b in zip(found, found[1:]))


def test_the_stub_sees_9_pixels_and_no_more(local):
    image = rand(64, 64)
    before, reach = predict_logits(local, image), 0
    for row, column in ((28, 31), (31, 28), (29, 30), (35, 32)):
        touched = image.clone()
        touched[0, row, column] += 5.0
        changed = (predict_logits(local, touched) - before).abs() > 1e-6
        rows, columns = changed.nonzero().T
        reach = max(reach, *(int((v - at).abs().max()) for v, at in ((rows, row), (columns, column))))
    assert reach == local.receptive_radius


@pytest.mark.parametrize("size", [(64, 64), (61, 83), (40, 20), (23, 130), (5, 4)])
@pytest.mark.parametrize("tile", [16, 20, 27, 40])
def test_tiles_of_a_local_network_are_the_whole_image(local, size, tile):
    image = rand(*size)
    whole = predict_logits(local, image)
    assert error(predict_logits(local, image, tile=tile), whole) < TOLERANCE
    assert error(predict_logits(local, image, tile=tile, overlap=tile // 3), whole) < TOLERANCE


@pytest.mark.parametrize("wrong", ["halo 0", "halo 4", "halo 8", "grid", "shift"])
def test_the_tolerance_rejects_wrong_tiles(local, wrong):
    image = rand(61, 83)
    whole = predict_logits(local, image)
    if wrong == "grid":
        local.stride = 1  # windows off the grid of the pooling
    tiled = predict_logits(local, image, tile=21 if wrong == "grid" else 20, halo={"halo 0": 0, "halo 4": 4, "halo 8": 8}.get(wrong))
    assert error(tiled.roll(1, 1) if wrong == "shift" else tiled, whole) > 10 * TOLERANCE


def test_an_image_of_one_tile_is_the_whole_image_to_the_bit(local):
    image = rand(40, 33)
    assert torch.equal(predict_logits(local, image, tile=64), predict_logits(local, image))


@pytest.mark.parametrize("batch", [1, 3])
def test_the_network_never_sees_more_than_its_windows(local, monkeypatch, batch):
    monkeypatch.setattr("python_models.inference.logits._batches", lambda device: True)
    seen = []
    local.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
    out = Predictor(local, tile=64, batch=batch)([rand(300, 500)])[0]
    assert out.shape == (300, 500) and out.dtype == torch.float32
    assert max(n for n, *_ in seen) == batch and all(side <= 64 + 2 * 12 for *_, h, w in seen for side in (h, w))


def test_tiles_in_batches_are_tiles(local, monkeypatch):
    image = rand(70, 150)
    one = Predictor(local, tile=20, overlap=5)([image])[0]
    assert torch.equal(Predictor(local, tile=20, overlap=5, batch=4)([image])[0], one)
    monkeypatch.setattr("python_models.inference.logits._batches", lambda device: True)
    assert error(Predictor(local, tile=20, overlap=5, batch=4)([image])[0], one) < TOLERANCE


def test_a_fixed_input_size_sees_tiles_of_it_at_native_resolution():
    net = build_model("sgem_unet", "tiny", "reference", input_size=32).eval()
    seen = []
    net.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    image = rand(50, 90)
    predict_logits(net, image, tile=32)
    assert {tuple(x.shape) for x in seen} == {(1, 1, 32, 32)} and len(seen) == 2 * 4
    assert torch.equal(seen[0], net.preprocess(image[:, :32, :32])) and torch.equal(seen[-1], net.preprocess(image[:, -32:, -32:]))
    seen.clear()
    assert predict_logits(net, rand(20, 40), tile=16).shape == (20, 40)
    assert {tuple(x.shape) for x in seen} == {(1, 1, 32, 32)}
    assert torch.equal(seen[0][0, 0, 20:], seen[0][0, 0, 19:20].expand(12, 32))  # beyond the image its border goes on


def test_an_image_of_the_input_size_needs_no_tiles():
    net = build_model("sgem_unet", "tiny", "reference", input_size=32).eval()
    image = rand(32, 32)
    assert torch.equal(predict_logits(net, image, tile=32), predict_logits(net, image))


def test_a_note_says_where_tiles_differ(local):
    net = build_model("sgem_unet", "tiny", "reference", attention="linear").eval()
    with torch.no_grad():
        net.sgem.gamma.fill_(1e4)  # it begins at 0, where nothing is attended to
    image = rand(96, 96)
    assert error(predict_logits(net, image, tile=32, halo=32), predict_logits(net, image)) > 10 * TOLERANCE
    assert "sgem_unet looks at all it is shown" in Predictor(net, tile=32).note
    assert Predictor(net).note is None and Predictor(local, tile=32).note is None
    assert "halo 8 is below the receptive radius 9 of local" in Predictor(local, tile=32, halo=8).note


@pytest.mark.parametrize("options, words", [
    (dict(batch=0), "batch must be >= 1, got 0"), (dict(precision="fp16"), "precision must be fp32 or bf16, got 'fp16'"),
    (dict(tile=0), "tile must be >= 1, got 0"), (dict(halo=4), "halo needs a tile, got none"), (dict(overlap=4), "overlap needs a tile"),
    (dict(tile=8, halo=-1), "halo must be >= 0, got -1"), (dict(tile=8, overlap=5), r"overlap must be in 0\.\.4, half the tile, got 5"),
])
def test_wrong_options(local, options, words):
    with pytest.raises(ValueError, match=f"^predict: {words}"):
        Predictor(local, **options)


@pytest.mark.parametrize("options", [dict(tile=64), dict(tile=20, halo=4), dict(tile=31)])
def test_tiles_of_a_fixed_input_size_must_fit_it(options):
    net = build_model("sgem_unet", "tiny", "reference", input_size=32).eval()
    with pytest.raises(ValueError, match=r"tile \+ 2 halo must be 32, the input size of sgem_unet, got tile"):
        Predictor(net, **options)
