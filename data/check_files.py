"""Check and decode many files, by several processes."""

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from fastcore.basics import defaults

from data.decode import check_file
from data.limits import BadImage
from data.sizes import Size
from runtime.errors import UserError
from runtime.files import sha256
from runtime.machine import total_memory

CHUNK = 100  # files that a process checks at once: 20 ms for small images, seconds for photographs
MEMORY = 2**31  # bytes for each process: the largest accepted image takes 0.8 GiB

Check = tuple[Size | str, bytes | None]  # the size of a good image or the reason of a bad one; pixels, 3 x H x W


def check_files(files: dict[Path, str | None], keeps: Callable[[Size], bool]) -> Iterator[Check]:
    """Check `files`, in order, and decode those of a size that `keeps` selects; see `check_file`.

    `files` maps each file to its `sha256`. Uses several processes if there are many files; threads would share the
    stderr that `check_damage` reads. Raises UserError if a file has changed, or if a process is killed.
    """
    check = partial(_check, keeps)
    # without fork, a script that lacks the `__name__` guard would run again in each process
    if len(files) <= CHUNK or sys.platform != 'linux':
        yield from map(check, files, files.values())
        return
    processes = max(1, min(defaults.cpus, total_memory() // MEMORY))
    with ProcessPoolExecutor(processes, get_context('fork'), _init_process) as pool:
        try:
            yield from pool.map(check, files, files.values(), chunksize=CHUNK)
        except BrokenExecutor as e:
            raise UserError('a process that checked images was killed, perhaps because memory ran out') from e
        finally:
            pool.shutdown(cancel_futures=True)


def _init_process() -> None:
    """Ignore Ctrl-C, which the parent handles, and die if the parent is killed (Linux's PR_SET_PDEATHSIG)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _check(keeps: Callable[[Size], bool], file: Path, content: str | None) -> Check:
    try:
        result, image = check_file(file, keeps)
    except BadImage as e:
        result, image = str(e), None
    if sha256(file) != content:  # else the result would be kept for another content
        raise UserError(f'{file} has changed while it was checked: start again')
    return result, image and np.asarray(image).transpose(2, 0, 1).tobytes()
