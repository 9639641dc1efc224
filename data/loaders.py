"""From a folder of images to fastai's DataLoaders: train, valid and test."""

import random
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock, TransformBlock
from fastai.data.core import DataLoaders, TfmdDL
from fastai.data.transforms import parent_label
from fastai.torch_core import default_device
from fastai.vision.core import PILImage
from fastcore.basics import defaults
from PIL import Image
from sklearn.model_selection import train_test_split

from data.files import BadImage, open_rgb
from data.sources import find_images
from data.transforms import AlbumentationsTransform, get_transforms
from errors import UserError
from recipes import Recipe, recipe_for


class SeededDL(TfmdDL):
    """A TfmdDL whose order and augmentation depend on (seed, epoch, image) alone, not on workers or on the past.

    `epoch` is set by the training loop (`callbacks.epoch.EpochToLoader`). Outside of it, as in `show_batch`, it is
    None and each iteration draws anew. `skip` batches at its start are left out, where training goes on within an
    epoch; its length is that of the whole epoch. Iterating draws nothing from the global random states.
    """

    epoch: int | None = None
    skip: int = 0

    def __init__(self, dataset, seed: int = 42, **kwargs):
        self.seed, self.stream, self.seen = seed, 0, Counter()
        super().__init__(dataset, **kwargs)
        self.rng = random.Random(seed)
        self.fake_l.generator = torch.Generator()  # torch's iterators draw their workers' seed from it

    def new(self, dataset=None, cls=None, **kwargs):
        """As TfmdDL's, with the same seed."""
        return super().new(dataset, cls, **{'seed': self.seed, **kwargs})

    def before_iter(self):
        """Settle, before any worker starts, what this iteration draws from."""
        super().before_iter()
        if self.epoch is not None:
            self.rng = random.Random(f'{self.seed}, {self.epoch}')
        self.stream, self.seen = self.rng.getrandbits(32), Counter()

    def get_idxs(self) -> list[int]:
        """As TfmdDL's, without those of the first `skip` batches."""
        idxs = super().get_idxs()
        return idxs[self.skip * self.bs :] if self.skip else idxs

    def wif(self):
        """Let the process that trains decide what a Ctrl-C or SIGTERM to all of its group means for this worker.

        It usually wants the batches that it has asked for. A worker that nobody ends ends itself a minute later.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, 'alarm'):  # elsewhere no signal reaches a whole group
            signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(60))

    def do_item(self, s):
        """Item `s` with draws of its own, also where a sampler repeats it within the epoch."""
        for tfm in self.after_item.fs:
            if isinstance(tfm, AlbumentationsTransform):
                tfm.set_draws((self.seed, self.stream, s or 0, self.seen[s]))
        self.seen[s] += 1  # by each worker for itself
        return super().do_item(s)


def get_dls(
    path: str | Path,
    recipe: Recipe | None = None,
    bs: int | None = None,
    valid: float | str = 0.1,
    fraction: float = 1.0,
    seed: int = 42,
    num_workers: int | None = None,
    skip_bad: bool = False,
) -> DataLoaders:
    """DataLoaders of `path` (whatever `find_images` takes): `dls.train`, `dls.valid`, and `dls[2]`, the test set.

    `recipe` (default: `plateau`, fitted to what `path` names) is kept as `dls.recipe`, and gives the default `bs`.
    `fraction` of the training images is kept, and `valid` of those is held out, both stratified by class; with
    `valid='test'` the test set is the validation set too. Batches are N x 3 x H x W, normalised, and class indices.
    Files that `skip_bad` leaves out are in `dls.left_out`, each with the reason. Raises UserError when the images can't
    be used or are too few.
    """
    recipe = recipe or recipe_for(path)
    bs = bs or recipe.bs
    images = find_images(path, skip_bad)
    train, test = list(images.train), list(images.test)
    if fraction < 1:
        train, _ = _stratified(train, len(train) - round(fraction * len(train)), seed, f'fraction {fraction}')
    if valid == 'test':
        held = test
    else:
        train, held = _stratified(train, round(valid * len(train)), seed, f'valid {valid}')
    if bs > len(train):
        raise UserError(f'bs {bs} is more than the {len(train)} training images: choose a smaller bs')

    on_gpu = default_device().type == 'cuda'
    if num_workers is None:
        # on the CPU the model needs every core; one image costs 0.3 ms here and 40 ms there
        num_workers = min(defaults.cpus, 8) if on_gpu else 0
    n, m = len(train), len(train) + len(held)
    block = DataBlock(
        blocks=(TransformBlock(type_tfms=_image), CategoryBlock(vocab=images.classes)),
        get_y=parent_label,
        splitter=lambda items: [range(n), range(n, m), range(m, len(items))],
        item_tfms=AlbumentationsTransform(*get_transforms(recipe, images.size)),
        dl_type=SeededDL,
    )
    dls = block.dataloaders(
        train + held + test, path=images.path, bs=bs, seed=seed, num_workers=num_workers, pin_memory=on_gpu
    )
    dls.recipe, dls.left_out = recipe, images.bad
    return dls


def _image(item: str | Path | bytes | np.ndarray | Image.Image) -> PILImage:
    """A file as it was checked, or what `learn.predict` takes besides (fastai reads the types off the annotation)."""
    if not isinstance(item, str | Path):
        return PILImage.create(item)
    try:
        return open_rgb(item)
    except BadImage as e:  # since it was checked
        raise UserError(f'{item} is no longer what it was: {e}') from e


def _stratified(files: list[Path], n_out: int, seed: int, option: str) -> tuple[list[Path], list[Path]]:
    """Split `n_out` files off, each class in proportion; both parts keep the order of `files`."""
    labels = [parent_label(f) for f in files]
    try:
        kept, out = train_test_split(range(len(files)), test_size=n_out, random_state=seed, stratify=labels)
    except ValueError as e:
        raise UserError(f'{option} of {len(files)} images leaves a class without any: {e}') from e
    if missing := {*labels} - {labels[i] for i in kept}:
        raise UserError(f'{option} of {len(files)} images leaves {min(missing)} without any: choose more')
    return [files[i] for i in sorted(kept)], [files[i] for i in sorted(out)]
