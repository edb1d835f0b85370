"""The C allocator of a training process."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let the process keep the memory it frees; False where the allocator is not glibc's.

    By default glibc hands every large buffer back to the kernel and each new one costs a page fault per 4 KB, which in
    a training step on the CPU is a large share of the time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, _PAD)])
