"""Runs every benchmark with the stock and with a tuned allocator, and writes benchmarks/results/<name>.json.

    python benchmarks/run.py [NAME] [-k EXPRESSION]

Fresh large buffers cost page faults that flatter whoever allocates less, so each figure is taken both ways and the worse counts.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import result_file

HERE = Path(__file__).parent
ALLOCATORS = {"stock": {}, "tuned": dict(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_="-1", MALLOC_TOP_PAD_="268435456")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="cpu", help="name of the result file (cpu)")
    parser.add_argument("-k", help="only the benchmarks that match, as in pytest")
    options = parser.parse_args()
    rows = []
    for allocator, variables in ALLOCATORS.items():
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE), f"--benchmark-json={report}", *(["-k", options.k] if options.k else [])]
            if subprocess.run(command, env={**os.environ, **variables}, cwd=HERE).returncode:
                return 1
            rows += [{"allocator": allocator, **b["extra_info"]} for b in json.loads(report.read_text())["benchmarks"]]
    result_file.write(options.name, rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
