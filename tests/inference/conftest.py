"""The small set and run of tests/small_run.py, a network whose reach is known, and a run of `predict_files`."""
import pytest
import torch
from small_run import always_one_thread, change, config, data, trained  # noqa: F401
from torch import cat, nn

from python_models.inference import Predictor, find_frames, predict_files
from python_models.layers import IRSTDNet, pad_to_multiple
from python_models.runs import load_run


class Local(IRSTDNet):
    """Convolutions around a pooling by 4: an output pixel sees 9 pixels to each side, no farther."""

    name, presets, default_preset = "local", {"a": {}}, "a"
    receptive_radius, stride = 9, 4

    def __init__(self):
        super().__init__({}, in_channels=1, min_size=4)
        self.near = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.far = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.Upsample(scale_factor=4))
        self.out = nn.Conv2d(8, 1, 3, padding=1)

    def forward_maps(self, x):
        near = self.near(pad_to_multiple(x, 4))
        return {"logits": self.out(cat((near, self.far(near)), 1))[..., : x.shape[-2], : x.shape[-1]]}

    def criterion(self):
        return nn.BCEWithLogitsLoss()


@pytest.fixture
def local():
    """Weights of equal signs, so that everything within reach matters."""
    torch.manual_seed(0)
    net = Local().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.abs_()
    return net


@pytest.fixture(scope="module")
def net(trained):  # noqa: F811
    """The trained network, its output shifted so that it finds some targets and not everything."""
    net = load_run(trained, backend="reference")
    with torch.no_grad():
        logits = net(net.preprocess(torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))))["logits"]
        net.head.bias -= logits.quantile(0.98)
    return net


@pytest.fixture
def run():
    """run(net, sources, out, batch=1, tile=None, **options of predict_files) -> results."""
    def predict(net, sources, out, batch=1, tile=None, recursive=False, **options):
        frames, errors = find_frames([str(s) for s in sources], recursive)
        assert not errors
        return list(predict_files(Predictor(net, tile=tile, batch=batch), frames, out, **options))
    return predict
