"""A fastai Learner by a recipe."""

from datetime import datetime
from functools import partial
from pathlib import Path

import fastai.vision.all  # noqa: F401, its modules add methods to Learner: summary, lr_find, to_fp16
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import CancelEpochException
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastai.torch_core import default_device
from fastcore.basics import noop
from torch import Tensor, nn

from architectures import get_model
from bars import shows_bars
from callbacks.epoch import EpochToLoader
from callbacks.progress import Progress, SweepBar
from callbacks.views import MeanOverViews
from errors import UserError
from models import SpeedNet
from optimiser import Muon
from recipes import PLATEAU, Recipe


class ResumableLearner(Learner):
    """fastai's Learner, whose next fit can begin at a later epoch, and within it after `dls.train.skip` batches.

    fastai's own `start_epoch` runs the callbacks of the epochs that it skips, where every tracker fails.
    """

    first_epoch = 0

    def _do_fit(self):
        if self.first_epoch and hasattr(self, 'progress') and hasattr(self.progress, 'mbar'):
            self.progress.mbar.update(0)  # which starts the bar's clock: fastprogress fails without
        for epoch in range(self.first_epoch, self.n_epoch):
            self.epoch = epoch
            self._with_events(self._do_epoch, 'epoch', CancelEpochException)

    def all_batches(self):
        """Train or evaluate on all batches that the loader gives, counted from the epoch's first."""
        self.n_iter = len(self.dl)
        for o in enumerate(self.dl, getattr(self.dl, 'skip', 0)):
            self.one_batch(*o)

    def export(self, *args, **kwargs):
        """As fastai's, also where nothing has made the folder yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        super().export(*args, **kwargs)

    def add_cb(self, cb):
        """As fastai's; a second MixedPrecision, as of `to_fp16`, takes the first one's place: two would scale twice."""
        if isinstance(cb, MixedPrecision):
            self.remove_cb(MixedPrecision)
        return super().add_cb(cb)

    def to_channelslast(self, *args, **kwargs) -> Learner:
        """As fastai's, which returns None where there's nothing to do."""
        return super().to_channelslast(*args, **kwargs) or self

    def freeze_to(self, n: int) -> None:
        """As fastai's, but say so where nothing is frozen: `freeze` and `fine_tune` expect a group for the head."""
        super().freeze_to(n)
        if n < 0 and not self.opt.frozen_idx:
            print('freeze: all weights are in one parameter group, so nothing is frozen; the whole network trains')


def get_learner(
    dls: DataLoaders, recipe: Recipe | None = None, path: str | Path | None = None, initialise: bool = True
) -> Learner:
    """A Learner for `dls` by `recipe` (default: theirs), kept as `learn.recipe`.

    `path` is its folder, for weights, history and checkpoints; the default is a new one in runs/, which is printed.

    `dls` are those of `get_dls`, or any fastai DataLoaders of RGB images with one class each; their default recipe is
    `plateau`, and their own transforms stay. Raises UserError where they are something else.

    Mixed precision on a GPU (bf16 where it has it), channels_last everywhere. Without `initialise` nothing is loaded or
    computed that other weights are to replace: neither pretrained ones nor a whitening layer. The rest is as in
    `get_model`.
    """
    recipe = recipe or getattr(dls, 'recipe', PLATEAU)
    if path is None:
        path = Path('runs', f'notebook-{datetime.now():%Y%m%d-%H%M%S-%f}')
        print(f'weights, history and checkpoints will be in {path} (get_learner(dls, path=...) chooses the folder)')
    if not isinstance(dls.device, torch.device):  # fastai keeps a name, or None, as it was given
        dls.to(torch.device(dls.device or default_device()))
    size = dls.size if hasattr(dls, 'size') else _size_of_images(dls)
    model = get_model(recipe, len(dls.vocab), size, initialise)
    if isinstance(model, SpeedNet) and initialise:
        model.whiten(_some(dls, size))
    learn = ResumableLearner(
        dls,
        model,
        loss_func=CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing),
        # fastai's own SGD knows no Nesterov momentum; torch's `weight_decay` is the true L2
        opt_func=partial(
            OptimWrapper, opt=Muon if recipe.muon else torch.optim.SGD, momentum=recipe.mom, nesterov=recipe.nesterov
        ),
        splitter=partial(_groups, recipe=recipe),
        wd=[recipe.wd / scale for scale in recipe.lr_scales.values()],
        wd_bn_bias=True,
        train_bn=False,  # or fastai marks what isn't trained as well, which torch's optimisers can't save
        metrics=accuracy,
        cbs=[EpochToLoader(), ChannelsLast()],
        path=path,
    )
    learn.recipe = recipe
    learn.recorder.train_metrics = True
    if recipe.views:
        learn.add_cb(MeanOverViews(**recipe.views))
    if dls.device.type == 'cuda':
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        learn.add_cb(MixedPrecision(AMPMode.BF16 if bf16 else AMPMode.FP16))
    learn.remove_cb(ProgressCallback)
    if shows_bars():
        learn.add_cbs([Progress(), SweepBar()])
    else:
        learn.logger = noop  # EpochLines prints instead
    return learn


def _groups(model: nn.Module, recipe: Recipe) -> list[list[nn.Parameter]]:
    """The trained parameters, a list for each of `Recipe.lr_scales`: BatchNorm's biases, filters, the rest."""
    norms = {m.bias for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    groups = {name: [] for name in recipe.lr_scales}
    for p in model.parameters():
        if p.requires_grad:
            name = 'biases' if p in norms else 'filters' if p.ndim == 4 else 'rest'
            groups.get(name, groups['rest']).append(p)
    return list(groups.values())


def _size_of_images(dls: DataLoaders) -> tuple[int, int]:
    """Height and width of what fastai's own `dls` give; UserError unless it's RGB images with one class each."""
    x, *y = dls.one_batch()
    rgb = isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == 3
    if not (rgb and hasattr(dls, 'vocab') and len(y) == 1 and y[0].ndim == 1 and not y[0].is_floating_point()):
        raise UserError(
            'get_learner needs DataLoaders of RGB images with one class each: take those of get_dls, or of an '
            'ImageBlock and a CategoryBlock'
        )
    return tuple(x.shape[2:])


def _some(dls: DataLoaders, size: tuple[int, int]) -> Tensor:
    """About 2,000 training images of all classes as validation would see them, N x 3 x H x W; fewer large ones."""
    items, (h, w) = dls.train.dataset.items, size
    n = min(2000, max(10, 2_500_000 // (h * w)))  # 2,000 of 224x224 would take 10 GiB as patches
    dl = dls.test_dl(items[:: -(-len(items) // n)], num_workers=0)
    return torch.cat([x.cpu().as_subclass(Tensor) for (x,) in dl])
