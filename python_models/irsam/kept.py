"""Values that depend on weights alone, kept between calls and never stale."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Kept:
    """`kept(compute, sources, *given)` -> compute(), again only when a source or something given has changed.

    sources: parameters and buffers. They are compared by object, memory and version, which every in-place change counts up: loading, an
    optimiser's step, an edit under no_grad. The one edit torch does not count, through `.data`, is seen after `train()` or `eval()` (see
    `Keeping`). given: anything compared by ==, tensors by identity. Nothing is kept where a gradient may be asked for, in a graph that is
    being compiled or exported, and of tensors without a version; copies and pickles start empty.

    >>> kept, w = Kept(), torch.ones(2)
    >>> with torch.no_grad():
    ...     a, b = kept(lambda: 2 * w, [w]), kept(lambda: 2 * w, [w])
    ...     c = kept(lambda: 2 * w, [w.add_(1)])
    >>> a is b, c.tolist()
    (True, [4.0, 4.0])
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what is kept."""
        self._key: tuple[Any, ...] = ()
        self._value: Any = None
        self._held: list[Tensor] = []  # the memory of the sources, so that none of it is given to other weights while it is compared by its address

    def __call__(self, compute: Callable[[], Any], sources: Sequence[Tensor], *given: Any) -> Any:
        if not keeps(sources[0]) or any(s.is_inference() for s in sources):
            return compute()
        kind = sources[0].device.type
        autocast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        key = (*((s, s.data_ptr(), s._version) for s in sources), *given, autocast)
        if not _same(key, self._key):
            self._key, self._value, self._held = key, compute(), [s.detach() for s in sources]
        return self._value

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()


def keeps(x: Tensor) -> bool:
    """Whether anything is kept now, for tensors like x."""
    return not (torch.compiler.is_compiling() or torch.is_grad_enabled() or x.is_meta or type(x) not in (Tensor, nn.Parameter))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or not (isinstance(a, Tensor) or isinstance(b, Tensor)) and a == b


class Keeping(nn.Module):
    """A module with a `kept`, emptied by what may change weights unseen: `.to()`, `.half()` and the like, `train()`, `eval()`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept = Kept()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Keeping:
        self.kept.clear()
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Keeping:
        self.kept.clear()
        return super().train(mode)
