"""Pure PyTorch references, one module per op (and what two share, _*.py); `irstd_ext.reference.<op>` is the function itself."""
from importlib import import_module
from pkgutil import iter_modules

__all__ = sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_") and not m.name.endswith("_naive"))
for _name in __all__:
    globals()[_name] = getattr(import_module(f"{__name__}.{_name}"), _name)
del _name
