"""Loads the native libraries, says why one did not load, and decides what serves CUDA tensors (`IRSTD_EXT_CUDA=auto|cuda|triton`, read once)."""
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
CPU, CUDA = FOLDER / "libirstd_ext.so", FOLDER / "libirstd_ext_cuda.so"


def _try(path: Path) -> str:
    """Why `path` is not loaded; empty if it is."""
    if not path.exists():
        return f"{path.name} is not built in {FOLDER}; if this is the source tree, run: pip install -e . (an installed irstd_ext is hidden by it)"
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        return f"{path.name} does not load: {str(error).splitlines()[0]}"
    return ""


def _try_cuda() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__} has no CUDA"
    return _try(CUDA)


if sys.platform != "linux":
    cpu_reason = f"irstd_ext supports Linux on x86-64 and aarch64, got {sys.platform}"
else:
    cpu_reason = _try(CPU)
cuda_reason = cpu_reason or _try_cuda()

_wish = os.environ.get("IRSTD_EXT_CUDA", "auto")
if _wish not in ("auto", "cuda", "triton"):
    raise ImportError(f"irstd_ext: IRSTD_EXT_CUDA must be auto, cuda or triton, got {_wish!r}")
if _wish == "cuda" and cuda_reason:
    raise ImportError(f"irstd_ext: IRSTD_EXT_CUDA=cuda, but {cuda_reason}")
if _wish == "triton" and torch.version.cuda is not None and find_spec("triton") is None:
    raise ImportError("irstd_ext: IRSTD_EXT_CUDA=triton, but the triton package is not installed")
if _wish != "triton" and not cuda_reason:
    cuda_backend = "cuda"
elif not cpu_reason and torch.version.cuda is not None and find_spec("triton") is not None:
    cuda_backend = "triton"
else:
    cuda_backend = None


def report() -> list[dict]:
    """One row per native part: name, path, loaded, reason (empty when loaded)."""
    targets = next(iter(FOLDER.glob("_targets*.so")), None)
    try:
        from . import _targets  # noqa: F401

        targets_reason = ""
    except ImportError as error:
        targets_reason = f"_targets is not built in {FOLDER}; run: pip install ." if targets is None else str(error)
    triton_reason = "" if cuda_backend == "triton" else ("the CUDA library serves CUDA tensors" if cuda_backend else "needs a CUDA torch and the triton package")
    rows = [("libirstd_ext", CPU, cpu_reason), ("libirstd_ext_cuda", CUDA, cuda_reason), ("triton kernels", FOLDER / "triton", triton_reason), ("_targets", targets, targets_reason)]
    return [dict(name=name, path=str(path) if path else "", loaded=not reason, reason=reason) for name, path, reason in rows]
