"""Check and decode many files, by several processes."""

import ctypes
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from fastai.torch_core import chunked
from fastcore.basics import defaults

from data.decode import check_file
from data.limits import BadImage
from data.sizes import Size
from runtime.errors import UserError
from runtime.files import sha256
from runtime.machine import total_memory

CHUNK = 100  # files that a process checks at once: 20 ms for small images, seconds for photographs
MEMORY = 2**31  # bytes for each process: the largest accepted image takes 0.8 GiB

# the size of a good image or the reason of a bad one; its pixels, if kept, and the side to which they were shrunk.
# Pixels are 3 x H x W if that side is 0, else H x W x 3
Check = tuple[Size | str, bytes | None, int]


def check_files(files: dict[Path, str | None], side_for: Callable[[Size], int | None]) -> Iterator[Check]:
    """Check `files`, in order, and decode those of a size for which `side_for` isn't None; see `check_file`.

    `files` maps each file to its `sha256`. Uses several processes if there are many files; threads would share the
    stderr that `check_damage` reads. Raises UserError if a file has changed, or if a process is killed.
    """
    check, processes = partial(_check, side_for), max(1, min(defaults.cpus, total_memory() // MEMORY))
    # without fork, a script that lacks the `__name__` guard would run again in each process
    if len(files) <= CHUNK or processes == 1 or sys.platform != 'linux':
        yield from map(check, files.items())
        return
    waiting = deque()
    with ProcessPoolExecutor(processes, get_context('fork'), _init_process) as pool:
        try:
            for chunk in chunked(files.items(), CHUNK):
                waiting.append(pool.submit(_check_all, check, chunk))
                if len(waiting) > 2 * processes:  # pixels that wait for the writer take memory
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        except BrokenExecutor as e:
            raise UserError('a process that checked images was killed, perhaps because memory ran out') from e
        finally:
            pool.shutdown(cancel_futures=True)


def _init_process() -> None:
    """Ignore Ctrl-C, which the parent handles, and die if the parent is killed (Linux's PR_SET_PDEATHSIG)."""
    torch.set_num_threads(1)  # a forked process that starts OpenMP's threads can wait forever
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _check_all(check: Callable[[tuple], Check], chunk: list[tuple]) -> list[Check]:
    return [check(one) for one in chunk]


def _check(side_for: Callable[[Size], int | None], one: tuple[Path, str | None]) -> Check:
    file, content = one
    try:
        result, pixels = check_file(file, side_for)
    except BadImage as e:
        result, pixels = str(e), None
    if sha256(file) != content:  # else the result would be kept for another content
        raise UserError(f'{file} has changed while it was checked: start again')
    if pixels is None:
        return result, None, 0
    side = side_for(result)
    return result, (pixels if side else pixels.transpose(2, 0, 1)).tobytes(), side
