"""Size and speed of every preset of every network: python benchmarks/bench_models.py writes results/models.json."""
import json
import statistics

import torch
from irstd_ext.bench import interleaved
from python_models import build_model, list_models, list_presets
from torch.utils.flop_counter import FlopCounterMode

import result_file


def measure(name: str, preset: str) -> dict:
    torch.manual_seed(0)
    net = build_model(name, preset)
    x = torch.randn(4, net.in_channels, 256, 256)
    mask = (torch.rand(4, 1, 256, 256) > 0.999).float()
    criterion = net.criterion()

    def train():
        net.train().zero_grad()
        criterion(net(x), mask).backward()

    def infer():
        net.eval()
        with torch.inference_mode():
            net(x[:1])

    net.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x[:1])
    macs = counter.get_total_flops() // 2
    ms = {k: 1e3 * statistics.median(v) for k, v in interleaved({"train": train, "infer": infer}, rounds=7).items()}
    return dict(model=name, preset=preset, parameters=sum(p.numel() for p in net.parameters()), macs=macs, train_ms=ms["train"] / 4, infer_ms=ms["infer"])


def main() -> None:
    rows = [measure(name, preset) for name in list_models() for preset in list_presets(name)]
    result_file.write("models", torch.get_num_threads(), rows=rows)


if __name__ == "__main__":
    main()
