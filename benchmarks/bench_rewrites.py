"""What IRSAM's exact rewrites give: the network with all of them, with each one left out, and without any, in one run.

    python benchmarks/bench_rewrites.py [PRESET] [--size N] [--rounds N]      writes results/rewrites_irsam_PRESET.json

Inference of one and of four images and a training step of one. The share of a rewrite is what leaving it out costs, of what all together gain; rewrites that
help each other have shares that add up to more than one.
"""
import argparse
import contextlib
import statistics

import torch
from irstd_ext.bench import interleaved
from python_models import build_model
from python_models.irsam.conv_bn import ConvBN, DoubledConvBN
from python_models.irsam.decoder import MaskDecoder
from python_models.irsam.encoder import Bottleneck, Mlp, PatchEmbed, TinyViT
from python_models.irsam.prompt import PositionEncoding
from python_models.irsam.two_way import Attention, ImageToToken, TokenToImage, TwoWayTransformer
from python_models.irsam.window_attention import WinAttn

import result_file

PARTS = {  # modules of exactly these classes
    "stem folded with the doubling": ("rewrites", (DoubledConvBN,)),
    "norms folded into convolutions": ("rewrites", (ConvBN,)),
    "bands of rows in MBConv and merging": ("rewrites", (Bottleneck, *Bottleneck.__subclasses__(), PatchEmbed)),
    "MLPs in pieces, in place": ("rewrites", (Mlp,)),
    "window attention fused, its bias kept": ("rewrites", (WinAttn,)),
    "channels innermost in the encoder": ("rewrites", (TinyViT,)),
    "position encoding kept": ("keep", (PositionEncoding,)),
    "pixels not projected between image and tokens": ("__class__", (TokenToImage, ImageToToken)),
    "first token attention once, last for two tokens": ("rewrites", (TwoWayTransformer,)),
    "edge head collapsed, other masks not computed": ("rewrites", (MaskDecoder,)),
}
AGAIN = "nothing left out, timed again: the noise"


@contextlib.contextmanager
def without(net, part):
    attribute, classes = PARTS[part]
    chosen = [m for m in net.modules() if type(m) in classes]
    before = [getattr(m, attribute) for m in chosen]
    for m in chosen:
        setattr(m, attribute, Attention if attribute == "__class__" else False)
    try:
        yield
    finally:
        for m, value in zip(chosen, before):
            setattr(m, attribute, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="public")
    parser.add_argument("--size", type=int, default=512, help="height and width of the images")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    net, plain = build_model("irsam", options.preset, rewrites=True), build_model("irsam", options.preset, rewrites=False)
    plain.load_state_dict(net.state_dict())
    images = torch.randn(4, 3, options.size, options.size)
    mask = (torch.rand(1, 1, options.size, options.size) > 0.999).float()
    criterion = net.criterion()

    def infer(network, batch):
        def run():
            network.eval()
            with torch.inference_mode():
                return network(images[:batch])["logits"]
        return run

    def train(network, batch):
        def run():
            network.train().zero_grad()
            criterion(network(images[:batch]), mask[:batch]).backward()
        return run

    def left_out(part, call):
        def run():
            with without(net, part):
                call()
        return run

    x, y = infer(net, 1)(), infer(plain, 1)()  # before training moves the statistics of the norms
    rows = []
    for mode, batch, make in (("inference", 1, infer), ("inference", 4, infer), ("training step", 1, train)):
        calls = {"all": make(net, batch), "none": make(plain, batch)}
        if batch == 1:
            calls |= {part: left_out(part, calls["all"]) for part in PARTS} | {AGAIN: calls["all"]}
        times = {name: statistics.median(t) for name, t in interleaved(calls, rounds=options.rounds, warmup=1).items()}
        gained = times["none"] - times["all"]
        shares = {part: (times[part] - times["all"]) / gained for part in (*PARTS, AGAIN) if part in times}
        rows.append(dict(mode=mode, batch=batch, size=options.size, all_ms=1e3 * times["all"], none_ms=1e3 * times["none"], ratio=times["none"] / times["all"], shares=shares))
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    result_file.write(f"rewrites_irsam_{options.preset}", torch.get_num_threads(), preset=options.preset, difference=((x - y).norm() / y.norm()).item(), rows=rows)


if __name__ == "__main__":
    main()
