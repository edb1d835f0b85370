"""What the operators do for a network: training step and inference with native operators against backend="reference", and what is left beside the operators.

    python benchmarks/bench_backends.py NETWORK [PRESET] [--rounds N]      writes results/backends_NETWORK_PRESET.json

Amdahl's bound is the reference's time over the time of everything that is not an operator: no operator, however fast, could give more.
"""
import argparse
import statistics

import torch
from irstd_ext.bench import interleaved
from python_models import build_model
from torch.profiler import ProfilerActivity, profile

import result_file

BATCH = {"training step": 2, "inference": 1}


def calls(net, size: int) -> dict:
    x = torch.randn(max(BATCH.values()), net.in_channels, size, size, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(len(x), 1, size, size, generator=torch.Generator().manual_seed(1)) > 0.999).float()
    criterion = net.criterion()

    def train():
        net.train().zero_grad()
        criterion(net(x[: BATCH["training step"]]), mask[: BATCH["training step"]]).backward()

    def infer():
        net.eval()
        with torch.inference_mode():
            net(x[: BATCH["inference"]])

    return {"training step": train, "inference": infer}


def operator_share(call) -> float:
    """The share of a call's time that is spent in operators of irstd_ext, by the profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        call()
    times = {e.key: e.self_cpu_time_total for e in found.key_averages()}
    return sum(t for name, t in times.items() if "irstd_ext" in name) / sum(times.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("preset", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256, help="height and width of the images")
    options = parser.parse_args()
    torch.manual_seed(0)
    net = build_model(options.network, options.preset)
    other = build_model(options.network, options.preset, backend="reference")
    other.load_state_dict(net.state_dict())
    rows = []
    for mode, ours in calls(net, options.size).items():
        reference = calls(other, options.size)[mode]
        times = interleaved({"ext": ours, "reference": reference}, rounds=options.rounds, warmup=1)
        share = statistics.median(operator_share(ours) for _ in range(options.rounds))
        ext, slow = (statistics.median(times[k]) for k in ("ext", "reference"))
        rows.append(dict(mode=mode, batch=BATCH[mode], size=options.size, ext_ms=1e3 * ext, reference_ms=1e3 * slow, ratio=slow / ext, operator_share=share,
                         amdahl_bound=slow / (ext * (1 - share)), ext_all_ms=[1e3 * t for t in times["ext"]], reference_all_ms=[1e3 * t for t in times["reference"]]))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items() if not k.endswith("all_ms")}, flush=True)
    preset = options.preset or net.default_preset
    result_file.write(f"backends_{options.network}_{preset}", torch.get_num_threads(), network=options.network, preset=preset, rows=rows)


if __name__ == "__main__":
    main()
