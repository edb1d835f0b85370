"""Native operators for infrared small target detection. `python -m irstd_ext` lists them."""
from types import SimpleNamespace

from . import _load, ops, reference, targets
from .ops import *  # noqa: F403 - the operators, by name

__version__ = "0.1.0"
__all__ = [*ops.__all__, "get_ops", "ops", "reference", "targets"]


def get_ops(backend: str = "ext") -> SimpleNamespace:
    """The operators as attributes of one object: `"ext"` native ones, `"reference"` pure PyTorch. Chosen once, when a network is built.

    Example:
        >>> import irstd_ext
        >>> sorted(vars(irstd_ext.get_ops("reference"))) == sorted(irstd_ext.ops.__all__)
        True
    """
    if backend == "reference":
        return SimpleNamespace(**{name: getattr(reference, name) for name in ops.__all__})
    if backend == "ext":
        if _load.cpu_reason:
            raise RuntimeError(f"irstd_ext: backend='ext' needs the native library: {_load.cpu_reason}")
        return SimpleNamespace(**{name: getattr(ops, name) for name in ops.__all__})
    raise ValueError(f"irstd_ext: backend must be 'ext' or 'reference', got {backend!r}")
