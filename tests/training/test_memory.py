import platform
import subprocess
import sys
from pathlib import Path

import pytest

from training.memory import keep_freed_memory

CODE = """
import runpy
from resource import RUSAGE_SELF, getrusage
import torch

# by its path: the package imports libraries whose freed memory the first tensors would take
runpy.run_path('training/memory.py')['keep_freed_memory']()
for _ in range(8):
    before = getrusage(RUSAGE_SELF).ru_minflt
    activations = [torch.zeros(2**24) for _ in range(8)]  # each 64 MiB, 16,384 pages
    del activations
    print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc')
def test_freed_memory_is_used_again_without_asking_the_system():
    command = [sys.executable, '-c', CODE]  # its own process: nothing else takes the freed memory
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    faults = [int(line) for line in done.stdout.split()]
    assert faults[0] > 8 * 16_384
    assert sum(faults[4:]) < 8 * 16_384  # one of the four steps would take that many; the first four still align memory


def test_elsewhere_it_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'win32')
    monkeypatch.setattr('ctypes.CDLL', None)
    keep_freed_memory()
