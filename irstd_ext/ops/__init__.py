"""The public operators, one module per op; `irstd_ext.ops.<op>` is the function itself."""
from importlib import import_module
from pkgutil import iter_modules

from .. import _load

__all__ = sorted(m.name for m in iter_modules(__path__))


def _unavailable(name):
    def op(*args, **kwargs):
        raise RuntimeError(f"irstd_ext: {name} has no native library: {_load.cpu_reason}")

    return op


for _name in __all__:
    _function = getattr(import_module(f"{__name__}.{_name}"), _name)
    globals()[_name] = _unavailable(_name) if _load.cpu_reason else _function
del _name, _function
