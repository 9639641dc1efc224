"""Run a function in two processes of one distributed job."""

import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import fastai.distributed  # noqa: F401  (before the fork)
import torch

SECONDS = 120  # after which a process that hangs is killed


def on_two(work: Callable, *args, **kwargs) -> list[Any]:
    """Return what `work(*args, **kwargs)` returns on ranks 0 and 1; forks, since importing everything takes seconds."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    with ProcessPoolExecutor(2, get_context('fork')) as pool:
        ranks = [pool.submit(_as_rank, rank, port, work, args, kwargs) for rank in range(2)]
        return [rank.result() for rank in ranks]


def _as_rank(rank: int, port: int, work: Callable, args: tuple, kwargs: dict) -> Any:
    signal.alarm(SECONDS)
    torch.set_num_threads(1)  # torch's thread pool doesn't survive a fork
    here = {'RANK': rank, 'LOCAL_RANK': rank, 'WORLD_SIZE': 2, 'LOCAL_WORLD_SIZE': 2, 'OMP_NUM_THREADS': 1}
    address = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    os.environ.update({name: str(value) for name, value in {**here, **address}.items()})
    return work(*args, **kwargs)
