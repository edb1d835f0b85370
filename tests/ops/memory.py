"""How much memory pixel_difference_scan takes beyond its arguments, in a process of its own: the peak of a process never falls."""
import json
import subprocess
import sys

WORKER = """
import ctypes, json, sys
import torch
torch.set_num_threads(1)
from irstd_ext import pixel_difference_scan, reference
from irstd_ext.specs.pixel_difference_scan import SPEC
from irstd_ext.testing import with_grads
backend, sizes, large = json.loads(sys.argv[1])
op = pixel_difference_scan if backend == "ext" else reference.pixel_difference_scan
modules = [sys.modules[f"irstd_ext.reference.{name}"] for name in ("pixel_difference_scan", "_neighbours")]
def resident(what):
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(what))
def run(sizes):
    args = SPEC.args(sizes | dict(n=None), torch.float32)
    args[7] = torch.ones(2, 2, sizes["D"])
    g = torch.ones_like(args[0])
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    with_grads(op, args, SPEC.grads, g)
    return resident("VmHWM") - before
for module in modules: module.LARGE = 1
run(dict(sizes, H=4, W=5))  # the first call, and the first checkpoint, load much
for module in modules: module.LARGE = large
print(run(sizes))
"""


def growth(backend: str, sizes: dict, large: int = 1 << 26) -> int:
    """Bytes by which forward and backward, with weights of two windows, raise the peak of a process that holds the arguments."""
    run = subprocess.run([sys.executable, "-c", WORKER, json.dumps([backend, sizes, large])], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    return int(run.stdout)
