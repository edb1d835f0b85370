"""FLOP formulas, handed to torch.utils.flop_counter when somebody imports it: importing it ourselves would import Triton (half a second) or warn that there is none."""
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

COUNTER = "torch.utils.flop_counter"
_waiting: list[tuple[object, Callable]] = []


class _AfterImport(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                for op, formula in _waiting:
                    module.register_flop_formula(op)(formula)

            spec.loader.exec_module = exec_module
        return spec


def register(op, formula: Callable) -> None:
    if COUNTER in sys.modules:
        sys.modules[COUNTER].register_flop_formula(op)(formula)
        return
    if not _waiting:
        sys.meta_path.insert(0, _AfterImport())
    _waiting.append((op, formula))
