"""The machine's memory."""

import os


def total_memory() -> int:
    """Return the machine's memory in bytes; 8 GiB if unknown (Windows)."""
    return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') if hasattr(os, 'sysconf') else 2**33
