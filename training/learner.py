"""Build a fastai Learner from DataLoaders and a recipe."""

from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import fastai.vision.all  # noqa: F401, its modules add methods to Learner: summary, lr_find, to_fp16
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import CancelBatchException, CancelEpochException, TrainEvalCallback
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.data.core import DataLoaders
from fastai.learner import CastToTensor, Learner
from fastai.optimizer import OptimWrapper
from fastai.torch_core import default_device
from fastcore.basics import noop
from torch import Tensor, nn

from callbacks.mixup import MixUp
from callbacks.progress import Progress, SweepBar
from callbacks.recorder import Mean, Recorder, accuracy
from callbacks.set_epoch import EpochToLoader
from callbacks.test_time_views import MeanOverViews
from config.recipes import PLATEAU, Recipe
from models.backbones import head_of
from models.build import get_model
from models.speednet import SpeedNet
from models.winograd.convolution import winograd_convolutions
from runtime.errors import UserError
from runtime.progress import shows_bars
from training.events import EventTable
from training.loss import CrossEntropy, class_weights
from training.muon import Muon


class ResumableLearner(EventTable):
    """fastai's Learner, which can start a fit at `first_epoch`, after `dls.train.skip` batches.

    fastai's own `start_epoch` runs the callbacks of the skipped epochs, and every tracker fails in them.
    """

    first_epoch = 0

    def _do_fit(self):
        if self.first_epoch and hasattr(self, 'progress') and hasattr(self.progress, 'mbar'):
            self.progress.mbar.update(0)  # starts the bar's clock; otherwise fastprogress fails
        epoch = self.first_epoch
        while epoch < self.n_epoch:  # EarlyStop lowers `n_epoch`
            self.epoch = epoch
            self._with_events(self._do_epoch, 'epoch', CancelEpochException)
            epoch += 1

    def all_batches(self):
        """Train or evaluate on the loader's batches, numbered from the start of the epoch, also after a resume.

        On a CPU, Winograd's convolutions are used, except by a Learner without training images, as of `load_model`:
        its predictions equal those of earlier versions, bit for bit.
        """
        self.n_iter = len(self.dl)
        fast = winograd_convolutions(self.model) if len(self.dls.train.dataset) else nullcontext()
        with fast:
            for o in enumerate(self.dl, getattr(self.dl, 'skip', 0)):
                self.one_batch(*o)

    def one_batch(self, i: int, b: tuple) -> None:
        """Train or evaluate on the batch `b`: train on plain tensors, as each operation on a subclass runs Python."""
        self.iter = i
        if self.training:
            b = tuple(x.as_subclass(Tensor).to(self.dls.device) for x in b)
        else:
            b = self._set_device(b)
        self._split(b)
        self._with_events(self._do_one_batch, 'batch', CancelBatchException)

    def export(self, *args, **kwargs):
        """fastai's `export`, after creating the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        super().export(*args, **kwargs)

    def add_cb(self, cb):
        """A second MixedPrecision, for example by `to_fp16`, replaces the first: two would scale gradients twice."""
        if isinstance(cb, MixedPrecision):
            self.remove_cb(MixedPrecision)
        return super().add_cb(cb)

    def to_channelslast(self, *args, **kwargs) -> Learner:
        """Return the Learner, even if fastai's returns None because there's nothing to do."""
        return super().to_channelslast(*args, **kwargs) or self


def get_learner(
    dls: DataLoaders, recipe: Recipe | None = None, path: str | Path | None = None, initialise: bool = True
) -> Learner:
    """Build a Learner for `dls` and `recipe` (default: `dls.recipe`), available as `learn.recipe`.

    `path` is the folder for weights, history and checkpoints; the default is a new folder in runs/, which is printed.

    `dls` come from `get_dls`, or are any fastai DataLoaders of RGB images with one class each. The latter keep their
    own transforms, and their default recipe is `plateau`. Raises UserError for other DataLoaders, and as `get_model`.

    Uses mixed precision on a GPU (bf16 if supported), and channels_last everywhere. `initialise=False` skips pretrained
    weights and whitening: a checkpoint overwrites them.
    """
    recipe = recipe or getattr(dls, 'recipe', PLATEAU)
    if path is None:
        path = Path('runs', f'notebook-{datetime.now():%Y%m%d-%H%M%S-%f}')
        print(f'weights, history and checkpoints will be in {path} (get_learner(dls, path=...) chooses the folder)')
    if not isinstance(dls.device, torch.device):  # fastai keeps a device name or None
        dls.to(torch.device(dls.device or default_device()))
    size = dls.size if hasattr(dls, 'size') else _size_of_images(dls)
    model = get_model(recipe, len(dls.vocab), size, initialise)
    if isinstance(model, SpeedNet) and initialise:
        model.whiten(_some(dls, size))
    learn = ResumableLearner(
        dls,
        model,
        loss_func=CrossEntropy(label_smoothing=recipe.label_smoothing, weight=_weight(dls, recipe)),
        opt_func=partial(OptimWrapper, **_optimiser(recipe)),
        splitter=partial(_groups, recipe=recipe),
        wd=[recipe.wd / scale for scale in recipe.lr_scales.values()],
        wd_bn_bias=True,
        train_bn=False,  # otherwise fastai also marks untrained parameters, which torch's optimisers can't save
        metrics=Mean(accuracy),
        cbs=[TrainEvalCallback(), Recorder(), CastToTensor(), EpochToLoader(), ChannelsLast()],
        path=path,
        default_cbs=False,
    )
    learn.recipe, learn.cast_to_tensor.run_train = recipe, False  # in training `one_batch` casts
    if recipe.mixup:
        learn.add_cb(MixUp(float(recipe.mixup)))
    if recipe.views:
        learn.add_cb(MeanOverViews(**recipe.views))
    if dls.device.type == 'cuda':
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        learn.add_cb(MixedPrecision(AMPMode.BF16 if bf16 else AMPMode.FP16))
    if shows_bars():
        learn.add_cbs([Progress(), SweepBar()])
    else:
        learn.logger = noop  # EpochLines prints instead
    return learn


def _optimiser(recipe: Recipe) -> dict[str, Any]:
    """torch's optimiser and its options: fastai's SGD has no Nesterov momentum; torch's `weight_decay` is true L2."""
    if recipe.adamw:
        return {'opt': torch.optim.AdamW, 'betas': (recipe.mom, 0.999)}
    return {'opt': Muon if recipe.muon else torch.optim.SGD, 'momentum': recipe.mom, 'nesterov': recipe.nesterov}


def _groups(model: nn.Module, recipe: Recipe) -> list[list[nn.Parameter]]:
    """The trainable parameters, one list for each group in `Recipe.lr_scales`."""
    norms, head = {m.bias for m in model.modules() if isinstance(m, nn.BatchNorm2d)}, {*head_of(model)}
    groups = {name: [] for name in recipe.lr_scales}
    for p in model.parameters():
        if p.requires_grad:
            name = 'head' if p in head else 'biases' if p in norms else 'filters' if p.ndim == 4 else 'body'
            groups.get(name, groups['body']).append(p)
    return list(groups.values())


def _weight(dls: DataLoaders, recipe: Recipe) -> Tensor | None:
    """The weight of each class in the loss, None if all are equal; UserError if `get_dls` hasn't counted the images."""
    counts = vars(dls).get('class_counts')
    if not recipe.weight_classes or not len(dls.train.dataset):  # without training images, as in `load_model`
        return None
    if not counts:
        raise UserError("weight_classes needs the DataLoaders of get_dls, which count each class's images")
    return class_weights(counts).to(dls.device)


def _size_of_images(dls: DataLoaders) -> tuple[int, int]:
    """Height and width of the images in fastai DataLoaders; UserError unless they are RGB images, one class each."""
    x, *y = dls.one_batch()
    rgb = isinstance(x, Tensor) and x.ndim == 4 and x.shape[1] == 3
    if not (rgb and hasattr(dls, 'vocab') and len(y) == 1 and y[0].ndim == 1 and not y[0].is_floating_point()):
        raise UserError(
            'get_learner needs DataLoaders of RGB images with one class each: take those of get_dls, or of an '
            'ImageBlock and a CategoryBlock'
        )
    return tuple(x.shape[2:])


def _some(dls: DataLoaders, size: tuple[int, int]) -> Tensor:
    """About 2,000 training images of all classes, transformed as for validation, N x 3 x H x W; fewer if large."""
    items, (h, w) = dls.train.dataset.items, size
    n = min(2000, max(10, 2_500_000 // (h * w)))  # the patches of 2,000 images of 224x224 would take 10 GiB
    dl = dls.test_dl(items[:: -(-len(items) // n)], num_workers=0)
    return torch.cat([x.cpu().as_subclass(Tensor) for (x,) in dl])
