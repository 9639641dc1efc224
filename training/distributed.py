"""Distributed training: one training on several processes."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastai.vision.all import Learner, get_model, num_distrib, rank_distrib, set_seed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from runtime.processes import _group


@contextmanager
def shared_training(learn: Learner) -> Iterator[None]:
    """Train `learn` on all ranks within this context, by fastai's `distrib_ctx`.

    Each rank takes a share of every batch. Gradients are averaged, so all ranks keep the same weights, and batch size
    and learning rate mean the same as on one process. BatchNorm uses the whole batch's statistics on GPUs; on CPUs, and
    in timm's networks, each rank's share, as torch has no SyncBatchNorm for them.
    """
    if num_distrib() < 2:
        yield
        return
    _group()
    # here: these imports fail without Accelerate
    from accelerate import DistributedDataParallelKwargs

    from callbacks.distributed_validation import SharedValidation
    from data.distributed_loader import ShareDL

    whole, on_gpu = learn.dls.loaders, learn.dls.device.type == 'cuda'
    norms = {name: m for name, m in learn.model.named_modules() if isinstance(m, _BatchNorm)}
    if norms and not on_gpu:
        print('BatchNorm on CPUs: in training, each process uses the statistics of its own share of the batch')
    if rank_distrib():
        set_seed(learn.dls.train.seed + rank_distrib())  # otherwise dropout would be the same on all ranks
    learn.dls.loaders = [ShareDL(dl) for dl in whole]
    # a frozen layer has no gradient that the ranks could average
    frozen = DistributedDataParallelKwargs(find_unused_parameters=learn.recipe.frozen > 0)
    # override `accelerate config`: a fastai callback sets the precision, and the uncompiled model is saved
    plain = {'mixed_precision': 'no', 'dynamo_backend': 'no', 'kwargs_handlers': [frozen]}
    # torch's SyncBatchNorm would replace timm's BatchNorms, which contain the activation
    sync = on_gpu and all(type(m).__module__.startswith('torch.nn') for m in norms.values())
    try:
        with learn.distrib_ctx(sync_bn=sync, cpu=not on_gpu, **plain), learn.added_cbs(SharedValidation()):
            yield
    finally:
        learn.dls.loaders, learn.model = whole, get_model(learn.model)
        put_back(learn.model, norms)


def put_back(model: nn.Module, norms: dict[str, nn.Module]) -> None:
    """Replace the SyncBatchNorms in `model` with the original `norms` (by name), with their current weights."""
    for name, norm in norms.items():
        synced = model.get_submodule(name)
        norm.load_state_dict(synced.state_dict())
        model.set_submodule(name, norm.train(synced.training))
