"""`irstd bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_models.cli import check_run_options


@dataclass(frozen=True)
class Config:
    """Time the native ops against the same formula in PyTorch, with the errors of both against float64.

    Examples:
      irstd bench
      irstd bench --threads 1 --json bench.json
    """

    json: Path | None = None
    """also write the rows to this file"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""


def run(config: Config) -> int:
    """Measure and print."""
    import torch

    from irstd_ext import bench
    from python_models.files import write_json
    from python_models.runs import versions

    check_run_options("cpu", config.threads)
    if config.json is not None and not config.json.absolute().parent.is_dir():
        raise FileNotFoundError(f"json: folder {config.json.absolute().parent} does not exist")
    rows = bench.quick()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(bench_table(rows))
    if config.json is not None:
        write_json(config.json, {"threads": torch.get_num_threads(), "versions": versions(), "rows": rows})
        print(f"written to {config.json}")
    return 0


def bench_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `irstd_ext.bench.quick` as text.

    >>> row = dict(op="f", case="8x8", mode="forward", ext_ms=1.0, reference_ms=2.0, speedup=2.0, error_ext=1e-7, error_reference=2e-7)
    >>> print(bench_table([row]))
    op  case  mode     native ms  PyTorch ms  speed-up  error    PyTorch error
    f   8x8   forward  1.000      2.000       2.00x     1.0e-07  2.0e-07
    """
    head = ["op", "case", "mode", "native ms", "PyTorch ms", "speed-up", "error", "PyTorch error"]
    body = [[str(r["op"]), str(r["case"]), str(r["mode"]), f"{r['ext_ms']:.3f}", f"{r['reference_ms']:.3f}", f"{r['speedup']:.2f}x",
             f"{r['error_ext']:.1e}", f"{r['error_reference']:.1e}"] for r in rows]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in [head, *body])
