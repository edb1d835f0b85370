"""`python -m irstd_ext` lists the operators; `python -m irstd_ext <op>` shows one: its files, schema, dispatch, backends, dtypes and cost."""
import sys
from pathlib import Path

import torch

from . import _load, ops
from .testing import load_spec

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    ("what it computes", "irstd_ext/reference/{}.py"),
    ("the formula, host and device", "csrc/ops/{}/math.h"),
    ("how it is called", "irstd_ext/ops/{}.py"),
    ("CPU kernel", "csrc/ops/{}/cpu.cpp"),
    ("CUDA kernels", "csrc/ops/{}/cuda.cu"),
    ("CUDA binding", "csrc/ops/{}/cuda.cpp"),
    ("Triton kernels", "irstd_ext/triton/{}.py"),
    ("what is proved", "irstd_ext/specs/{}.py"),
    ("its tests", "tests/ops/test_{}.py"),
    ("its benchmark", "benchmarks/bench_{}.py"),
)
KEYS = ("CPU", "CUDA", "Meta", "Autograd", "AutocastCPU", "AutocastCUDA", "FuncTorchBatched")


def overview() -> str:
    lines = [f"{row['name']:18} {'loaded' if row['loaded'] else 'not loaded: ' + row['reason']}" for row in _load.report()]
    lines += ["", f"CUDA tensors are served by: {_load.cuda_backend or 'nothing'}", "", "operators:"]
    for name in ops.__all__:
        doc = (sys.modules[f"irstd_ext.ops.{name}"].__doc__ or "").splitlines()[0]
        lines.append(f"  {name:24} {doc}")
    return "\n".join([*lines, "", "python -m irstd_ext <operator> shows one."])


def describe(name: str) -> str:
    spec = load_spec(name)
    lines = [name, "", "files:"]
    for what, pattern in FILES:
        path = pattern.format(name)
        here = (ROOT / path).exists()
        lines.append(f"  {what:30} {path}{'' if here else '   (in the source tree)'}")
    for folder, pattern in ((f"csrc/ops/{name}", "*"), ("irstd_ext/reference", f"{name}_*.py")):
        more = sorted(str(p.relative_to(ROOT)) for p in (ROOT / folder).glob(pattern))
        lines += [f"  {'and':30} {path}" for path in more if path not in {pattern.format(name) for _, pattern in FILES}]
    if _load.cpu_reason:
        return "\n".join([*lines, "", f"not loaded: {_load.cpu_reason}"])
    lines += ["", "schemas:"]
    for op in (name, f"{name}_backward"):
        lines.append(f"  {getattr(torch.ops.irstd_ext, op).default._schema}")
    lines += ["", "dispatch:"]
    for key in KEYS:
        present = [op for op in (name, f"{name}_backward") if torch._C._dispatch_has_kernel_for_dispatch_key(f"irstd_ext::{op}", key)]
        lines.append(f"  {key:18} {', '.join(present) or '-'}")
    lines += ["", "backends: ext (this library), reference (pure PyTorch); CUDA tensors: " + (_load.cuda_backend or "nothing loaded")]
    lines += ["dtypes: float32, float64, float16, bfloat16 (half precision accumulates in float32)", "", "benchmark shapes:"]
    for case, sizes in spec.bench.items():
        shape = ", ".join(f"{k}={v}" for k, v in sizes.items())
        lines.append(f"  {case:18} {shape}: {spec.flops(sizes) / 1e9:.2f} GFLOP and {spec.bytes(sizes, 4) / 1e6:.1f} MB forward, {spec.backward_flops(sizes) / 1e9:.2f} GFLOP backward")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    if not arguments:
        print(overview())
        return 1 if _load.cpu_reason else 0
    elif len(arguments) == 1 and arguments[0] in ops.__all__:
        print(describe(arguments[0]))
        return 1 if _load.cpu_reason else 0
    else:
        print(f"irstd_ext: expected one of {', '.join(ops.__all__)}, got {' '.join(arguments)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
