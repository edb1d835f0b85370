"""What every benchmark writes: its figures, with the machine, versions and commit that they belong to."""
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Optional

HERE = Path(__file__).parent


def cpu_name() -> str:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(name: str, threads: Optional[int] = None, **figures) -> None:
    """Write results/<name>.json. threads: torch's, where it is the same for all figures."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    machine = dict(cpu=cpu_name(), cores=os.cpu_count(), **({"threads": threads} if threads else {}), system=platform.system(), python=platform.python_version())
    path = HERE / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(machine=machine, torch=version("torch"), commit=commit, **figures), indent=1) + "\n")
    print(f"wrote {path}")
