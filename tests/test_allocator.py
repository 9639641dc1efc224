import platform
import sys

import pytest
import torch

from allocator import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc can be told')
def test_freed_memory_is_used_again_without_asking_the_system():
    from resource import RUSAGE_SELF, getrusage

    keep_freed_memory()
    faults = []
    for _ in range(2):
        before = getrusage(RUSAGE_SELF).ru_minflt
        torch.zeros(2**24).sum()  # 64 MiB, 16,384 pages
        faults.append(getrusage(RUSAGE_SELF).ru_minflt - before)
    assert faults[1] < 1000


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'win32')
    monkeypatch.setattr('ctypes.CDLL', None)
    keep_freed_memory()
