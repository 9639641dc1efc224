"""A run that was there before: to look at again, or to go on with."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import num_distrib, rank_distrib

from checked_file import number, read_json, read_table
from console import say
from data.loaders import get_dls
from data.unseen import unseen_dls
from errors import UserError, printable
from learner import get_learner
from options import loader_options, read_config
from run_folder import fingerprint_images, open_run, surroundings
from tensor_file import load_tensors


def load_run(run: str | Path, **changes: Any) -> Learner:
    """The Learner of a finished run, with its images and kept weights; UserError where they are no longer there.

    `changes` are options that change nothing of what comes out, such as `data` where the images were moved.
    """
    run = open_run(run)
    if not (run / 'summary.json').is_file():
        raise UserError(f'{run} is no finished run: it has no summary.json')
    config = read_config(run / 'config.json')
    dls = get_dls(**loader_options({**config['options'], **changes}, config['recipe']))
    refuse_other_images(dls, config, run)
    return _with_kept_weights(dls, run)


def load_model(run: str | Path, device: torch.device | None = None) -> Learner:
    """The Learner of a run, without its images, to predict others: `learn.predict(file)`, `learn.dls.test_dl(files)`.

    It takes the run's config.json and models/best.pth, and runs no code that they may hold. `device` is fastai's
    default device, if not given. UserError where they can't be used.
    """
    run = open_run(run)
    config = read_config(run / 'config.json')
    model = (config[name] for name in ('recipe', 'classes', 'size', 'resized'))
    return _with_kept_weights(unseen_dls(*model, device), run)


def _with_kept_weights(dls: DataLoaders, run: Path) -> Learner:
    """The Learner for `dls` with the weights that `run` has kept; UserError where they are another model's."""
    learn, file = get_learner(dls, path=run, initialise=False), run / 'models/best.pth'
    way_out = f'; restore a copy of it, or train anew: python train_fastai.py --config {shlex.quote(str(run))}'
    try:
        learn.model.load_state_dict(load_tensors(file, way_out))
    except (RuntimeError, TypeError) as e:
        raise UserError(f"{file} doesn't hold the weights of this run{way_out}") from e
    return learn


def read_summary(run: Path) -> dict[str, Any]:
    """What a review takes over from summary.json: `lr`, `seconds` and `test_selected_on`; UserError if it's damaged."""

    def parse(summary):
        if not isinstance(summary['test_selected_on'], bool):
            raise ValueError('test_selected_on is true or false')
        numbers = {name: number(summary[name], 0, high) for name, high in (('lr', 1e30), ('seconds', 1e12))}
        return {**numbers, 'test_selected_on': summary['test_selected_on']}

    return read_json(run / 'summary.json', 'summary.json of a run', parse)


def read_history(run: Path) -> pd.DataFrame:
    """The history of a finished run, one row an epoch, as `fit` returned it; UserError if it's damaged."""

    def parse(history):
        history = history.astype(float)
        limits = {'epoch': 1e6, 'train_accuracy': 1, 'valid_accuracy': 1, 'lr': 1e30, 'seconds': 1e12}
        for name, high in limits.items():
            known = history[name].dropna() if name == 'valid_accuracy' else history[name]  # or nothing is held out
            if not known.between(0, high).all():
                raise ValueError(f'{name} is not from 0 to {high:g}')
        if not len(history) or history.train_loss.empty or history.valid_loss.empty:
            raise ValueError('no epochs')
        return history

    return read_table(run / 'history.csv', 'history.csv of a run', parse)


def refuse_other_images(dls: DataLoaders, config: dict[str, Any], run: Path) -> None:
    """UserError where `dls` has not the images that the run was begun with, split in the same way."""
    if fingerprint_images(dls) != config['images']:
        raise UserError(
            f'{dls.path} has not the images that {run} was begun with: restore them, or say with --data where they are'
        )


def name_changes(config: dict[str, Any]) -> None:
    """Say which code, libraries and device are no longer those that the run was begun with."""
    before, now = config['surroundings'], surroundings()
    for name in now:
        if now[name] != before.get(name):
            print(printable(f'changed since the run began: {name}, {before.get(name)} -> {now[name]}'))


@contextmanager
def says_how_to_go_on(run: Path) -> Iterator[None]:
    """Name the command for it where the run is stopped, or the system's refusal stops it."""
    try:
        yield
    except (KeyboardInterrupt, OSError, RuntimeError, MemoryError):
        launch = 'accelerate launch' if num_distrib() > 1 else 'python'
        if not rank_distrib():
            say(printable(f'to go on: {launch} train_fastai.py --resume {shlex.quote(str(run))}'), file=sys.stderr)
        raise
