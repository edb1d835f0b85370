"""wavelet_diffusion from memory instead of the caches: images, and results, take turns until they come round in no cache.

    python benchmarks/bench_cold.py [--rounds N]      writes results/wavelet_diffusion_cold.json

Beside it, each in the same rounds and with either allocator: a copy of the same bytes into new memory, one step, and the grouped convolutions by which the formula is usually written, also with both gradients.
"""
import argparse
import collections
import json
import os
import subprocess
import sys

import torch
from irstd_ext import bench, wavelet_diffusion
from irstd_ext.specs.wavelet_diffusion import SPEC

import result_file
from run import ALLOCATORS

COLD = 96 << 20  # bytes of images: more than a last-level cache
CASES = SPEC.bench | {f"B4_{C}x{side}x{side}_K1": dict(B=4, C=C, H=side, W=side, steps=1) for C, side in ((128, 128), (160, 64), (320, 64))}


def convolutions(u, k, steps, all_high=False):
    """Grouped convolutions with the Haar filters and their transposes, as the formula is usually written."""
    C = u.shape[1]
    weight = torch.tensor([[[-1.0, 1.0], [-1.0, 1.0]], [[-1.0, -1.0], [1.0, 1.0]]]).div(4)[:, None].repeat(C, 1, 1, 1)
    for _ in range(steps):
        bands = torch.nn.functional.conv2d(u, weight, groups=C).unflatten(1, (C, 2))
        g = 1 / (1 + bands.square().sum(2, keepdim=True) / k.view(C, 1, 1, 1).square())
        u = u - torch.nn.functional.conv_transpose2d((g * bands).flatten(1, 2), weight, groups=C)
    return u


def row(case: str, threads: int, rounds: int) -> dict:
    torch.set_num_threads(threads)
    u, k, steps, _ = SPEC.args(CASES[case], torch.float32)
    images = [u, *(torch.empty_like(u).copy_(u) for _ in range(max(1, COLD // u.nbytes)))]
    turn, results = iter(range(10**9)), collections.deque(maxlen=len(images))

    def cold(function):
        return lambda: results.append(function(images[next(turn) % len(images)]))

    calls = {"op": cold(lambda x: wavelet_diffusion(x, k, steps)), "copy": cold(torch.clone), "one_step": cold(lambda x: wavelet_diffusion(x, k, 1))}
    with torch.inference_mode():
        for _ in images:
            calls["copy"]()
        times = bench.interleaved(calls, rounds=rounds * 4)
        times |= bench.interleaved({"convolutions": cold(lambda x: convolutions(x, k, steps)), "op_beside": calls["op"]}, rounds=rounds)
    images, k, g = [x.requires_grad_() for x in images], k.requires_grad_(), torch.ones_like(u)

    def gradients(function):
        return cold(lambda x: torch.autograd.grad(function(x, k, steps), (x, k), g))

    times |= bench.interleaved({"convolutions_gradients": gradients(convolutions), "op_gradients": gradients(wavelet_diffusion)}, rounds=rounds)
    return dict(case=case, threads=threads, **{name: bench.summary(t) for name, t in times.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", action="store_true", help=argparse.SUPPRESS)  # one allocator's, for the process that asks
    options = parser.parse_args()
    if options.rows:
        return print(json.dumps([row(case, threads, options.rounds) for case in CASES for threads in (1, 2)]))
    rows = []
    for allocator, variables in ALLOCATORS.items():
        done = subprocess.run([sys.executable, __file__, "--rows", "--rounds", str(options.rounds)], env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=True)
        rows += [{"allocator": allocator, **r} for r in json.loads(done.stdout)]
    result_file.write("wavelet_diffusion_cold", rows=rows)


if __name__ == "__main__":
    main()
