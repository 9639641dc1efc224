"""Memory allocation on the CPU during training."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Make glibc keep the memory of freed tensors for the next ones.

    By default it returns blocks of over 32 MiB to the system, and in each step gets them again, zeroed page by page:
    3 to 11% of a step's time (benchmarks/allocator.py). https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if sys.platform == 'linux' else None  # musl has none
    if mallopt and mallopt(M_MMAP_THRESHOLD, 2**30):  # old versions allow 32 MiB at most
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
