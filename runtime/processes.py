"""Distributed training: several processes, one device each, started by `accelerate launch` or `torchrun`.

Work that must happen once runs on rank 0, which broadcasts the result. With one process all of this does nothing.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from functools import cache, wraps
from importlib.util import find_spec
from time import sleep
from typing import Any

import torch
from fastai.torch_core import num_distrib, rank_distrib
from torch import distributed

from runtime.errors import UserError

NO_LIMIT = timedelta(days=365)


def on_rank0(do: Callable) -> Callable:
    """Decorate `do` to run on rank 0 only; the other ranks wait without a timeout and return rank 0's result."""

    @wraps(do)
    def shared(*args, **kwargs) -> Any:
        if num_distrib() < 2:
            return do(*args, **kwargs)
        group, result = _group(NO_LIMIT), [None]
        if not rank_distrib():
            from accelerate.utils import patch_environment

            with patch_environment(WORLD_SIZE=1):  # else fastai's metrics and predictions wait for the other ranks
                result = [do(*args, **kwargs)]
        distributed.broadcast_object_list(result, src=0, group=group)
        return result[0]

    return shared


def gathered(value: Any) -> list:
    """The `value` of every rank, in rank order."""
    values = [value] * max(num_distrib(), 1)
    if num_distrib() > 1:
        distributed.all_gather_object(values, value, group=_group())
    return values


def highest(value: int) -> int:
    """The highest `value` of all ranks."""
    if num_distrib() < 2:
        return value
    shared = torch.tensor(value)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX, group=_group())
    return shared.item()


@contextmanager
def first_on_its_machine() -> Iterator[None]:
    """Run the block on local rank 0 first, then on the machine's other ranks, which find the files that it wrote."""
    if num_distrib() < 2:
        yield
        return
    group, first = _group(NO_LIMIT), os.environ['LOCAL_RANK'] == '0'
    if not first:
        distributed.barrier(group)
    yield
    if first:
        distributed.barrier(group)


@contextmanager
def one_of_several() -> Iterator[None]:
    """Run as one of several processes: only rank 0 prints; a lost peer is reported in one line."""
    # `accelerate launch --cpu --num_processes 2` starts one: https://github.com/huggingface/accelerate/issues/2741
    if {'MASTER_ADDR', 'ACCELERATE_MIXED_PRECISION'} <= os.environ.keys() and 'WORLD_SIZE' not in os.environ:
        raise UserError('accelerate started only one process: pass it --multi_gpu, also on CPUs')
    if num_distrib() < 2:
        yield
        return
    if missing := {'RANK', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'} - os.environ.keys():
        raise UserError(f'WORLD_SIZE is set, but not {min(missing)}: start with accelerate launch, or unset it')
    rank = rank_distrib()
    with open(os.devnull, 'w') as nowhere, redirect_stdout(nowhere) if rank else nullcontext():
        try:
            yield
        except (UserError, OSError, RuntimeError, KeyboardInterrupt) as e:
            lost = isinstance(e, distributed.DistError) or (isinstance(e, RuntimeError) and 'gloo' in str(e))
            if isinstance(e, RuntimeError) and not lost:
                raise
            # the launcher sends SIGTERM to the other processes when the first one exits
            signal.signal(signal.SIGTERM, signal.SIG_DFL if rank else signal.SIG_IGN)
            if rank and isinstance(e, KeyboardInterrupt):
                sys.exit(130)
            if rank:
                sleep(3)  # rank 0 reports first; then the launcher ends this process before it repeats the error
            if lost:
                raise UserError("another process of this job has exited: see its error, or the launcher's") from e
            if rank and isinstance(e, UserError):
                raise UserError(f'rank {rank}: {e}') from e
            raise
        distributed.destroy_process_group()


@cache
def _group(timeout: timedelta | None = None) -> distributed.ProcessGroup:
    """A gloo group of all ranks, since NCCL carries only GPU tensors; `timeout` is per message, else half an hour."""
    if find_spec('accelerate') is None:
        raise UserError(f'training on {num_distrib()} processes needs Accelerate: pip install accelerate')
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())  # joins the default group and selects this rank's GPU
    return distributed.new_group(backend='gloo', timeout=timeout)
