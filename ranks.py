"""One training on several processes, each with a device of its own, as `accelerate launch` and `torchrun` start them.

Rank 0 alone does what is to be done once, and the others learn what came of it. On one process nothing changes.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from time import sleep
from typing import Any

import torch
from fastai.learner import Learner
from fastai.torch_core import get_model, num_distrib, rank_distrib, set_seed
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from errors import UserError

NO_LIMIT = timedelta(days=365)


def rank0(do: Callable, *args, **kwargs) -> Any:
    """What `do(*args, **kwargs)` returns: rank 0 alone calls it, and the others wait for it as long as it takes."""
    if num_distrib() < 2:
        return do(*args, **kwargs)
    group, result = _group(NO_LIMIT), [None]
    if not rank_distrib():
        from accelerate.utils import patch_environment

        with patch_environment(WORLD_SIZE=1):  # or fastai's metrics and predictions wait for those of the others
            result = [do(*args, **kwargs)]
    distributed.broadcast_object_list(result, src=0, group=group)
    return result[0]


def gathered(value: Any) -> list:
    """The `value` of each rank, in their order."""
    values = [value] * max(num_distrib(), 1)
    if num_distrib() > 1:
        distributed.all_gather_object(values, value, group=_group())
    return values


def highest(value: int) -> int:
    """The highest `value` of all ranks."""
    shared = torch.tensor(value)
    if num_distrib() > 1:
        distributed.all_reduce(shared, distributed.ReduceOp.MAX, group=_group())
    return shared.item()


@contextmanager
def first_on_its_machine() -> Iterator[None]:
    """Let one process of each machine go ahead, and the others when these are done: what was written is there then."""
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
def shared_training(learn: Learner) -> Iterator[None]:
    """Train `learn` on all ranks by fastai's `distrib_ctx`: each has a share of every batch, all have the same weights.

    Gradients are averaged, so that the batch size and all that goes with it mean the same as on one process. BatchNorm
    takes its statistics over whole batches on GPUs, on CPUs over each rank's share: torch has no other for them.
    """
    if num_distrib() < 2:
        yield
        return
    _group()
    from callbacks.shared_validation import SharedValidation  # fastai.distributed can't be imported without Accelerate
    from data.share import ShareDL

    whole, on_gpu = learn.dls.loaders, learn.dls.device.type == 'cuda'
    norms = {name: m for name, m in learn.model.named_modules() if isinstance(m, _BatchNorm)}
    if norms and not on_gpu:
        print('BatchNorm on CPUs: its statistics in training are those of a process and its share of the batch')
    if rank_distrib():
        set_seed(learn.dls.train.seed + rank_distrib())  # or all would drop out the same
    learn.dls.loaders = [ShareDL(dl) for dl in whole]
    # whatever `accelerate config` says: precision is fastai's callback's, and what is saved is the plain model
    plain = {'mixed_precision': 'no', 'dynamo_backend': 'no'}
    try:
        with learn.distrib_ctx(sync_bn=on_gpu, cpu=not on_gpu, **plain), learn.added_cbs(SharedValidation()):
            yield
    finally:
        learn.dls.loaders, learn.model = whole, get_model(learn.model)
        put_back(learn.model, norms)


def put_back(model: nn.Module, norms: dict[str, nn.Module]) -> None:
    """Let `norms` (by name) take the place of the SyncBatchNorms that they became, with the same parameters."""
    for name, norm in norms.items():
        synced = model.get_submodule(name)
        norm.load_state_dict(synced.state_dict())
        model.set_submodule(name, norm.train(synced.training))


@contextmanager
def one_of_several() -> Iterator[None]:
    """Be one process of a command's: rank 0 alone prints, and a line says it where another one has ended."""
    # as `accelerate launch --cpu --num_processes 2` does: https://github.com/huggingface/accelerate/issues/2741
    if {'MASTER_ADDR', 'ACCELERATE_MIXED_PRECISION'} <= os.environ.keys() and 'WORLD_SIZE' not in os.environ:
        raise UserError('accelerate started one process only of those asked for: give it --multi_gpu, on CPUs, too')
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
            # as the launcher sends it when the first is gone
            signal.signal(signal.SIGTERM, signal.SIG_DFL if rank else signal.SIG_IGN)
            if rank and isinstance(e, KeyboardInterrupt):
                sys.exit(130)
            if rank:
                sleep(3)  # rank 0 speaks first: if it has the same to say, this process doesn't live to say it
            if lost:
                raise UserError('another process of this job is gone: it has said why, or the launcher does') from e
            if rank and isinstance(e, UserError):
                raise UserError(f'rank {rank}: {e}') from e
            raise
        distributed.destroy_process_group()


@cache
def _group(timeout: timedelta | None = None) -> distributed.ProcessGroup:
    """All ranks, for what is said between them; `timeout` is of each message, half an hour if it's None.

    Of its own, as GPUs' own NCCL carries nothing but their tensors, and ends a job in which one waits for ten minutes.
    """
    if find_spec('accelerate') is None:
        raise UserError(f'{num_distrib()} processes were started, which takes Accelerate: pip install accelerate')
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())  # joins the others, and takes its GPU
    return distributed.new_group(backend='gloo', timeout=timeout)
