"""Load an earlier run: its Learner, its summary and its history."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fastai.vision.all import DataLoaders, Learner

from config.options import Config, resume_config
from config.saved import read_config
from data.fingerprint import fingerprint_images, refuse_other_images
from data.loaders import load_dls
from data.prediction import unseen_dls
from runtime.checked_file import number, read_json, read_table
from runtime.errors import UserError
from runtime.processes import gathered, on_rank0
from runtime.run_folder import environment, new_run, open_run
from runtime.tensor_file import load_tensors
from training.learner import get_learner


def load_run(run: str | Path, **changes: Any) -> Learner:
    """The Learner of a finished run, with its images and best weights; UserError if they are missing or have changed.

    `changes` are options that don't affect the result, for example `data` if the images have moved.
    """
    run = open_run(run)
    if not (run / 'summary.json').is_file():
        raise UserError(f'{run} is not a finished run: it has no summary.json')
    saved = read_config(run)
    dls = load_dls(resume_config(changes, saved.config, run))
    refuse_other_images(dls, saved.images, run)
    learn = _with_kept_weights(dls, run)
    # as training leaves it: a pass takes 28% less time (speednet, AVX2), and its results are those after training
    learn.model.to(memory_format=torch.channels_last)
    return learn


def load_model(run: str | Path, device: torch.device | None = None) -> Learner:
    """The Learner of a run, without its images, for predictions: `learn.predict(file)`, `learn.dls.test_dl(files)`.

    Reads the run's config.json and models/best.pth, and runs no code from them. `device` defaults to fastai's default
    device. Raises UserError if the files can't be used.
    """
    run = open_run(run)
    saved = read_config(run)
    how = saved.classes, saved.size, saved.resized, saved.config.pixels
    return _with_kept_weights(unseen_dls(saved.config.recipe, *how, device), run)


def _with_kept_weights(dls: DataLoaders, run: Path) -> Learner:
    """The Learner for `dls` with the best weights of `run`; UserError if they don't fit its model."""
    learn, file = get_learner(dls, path=run, initialise=False), run / 'models/best.pth'
    way_out = f'; restore a copy of it, or train anew: python train_fastai.py --config {shlex.quote(str(run))}'
    try:
        learn.model.load_state_dict(load_tensors(file, way_out))
    except (RuntimeError, TypeError) as e:
        raise UserError(f"{file} doesn't hold the weights of this run{way_out}") from e
    return learn


def read_summary(run: Path) -> dict[str, Any]:
    """`lr`, `seconds`, and `phases` with the seconds of images and sweep; UserError if summary.json is invalid."""

    def parse(summary):
        values = {name: number(summary[name], 0, high) for name, high in (('lr', 1e30), ('seconds', 1e12))}
        phases = summary.get('phases', {})  # earlier versions wrote none
        return {
            **values,
            'phases': {name: number(phases[name], 0, 1e12) for name in ('images', 'sweep') if name in phases},
        }

    return read_json(run / 'summary.json', 'summary.json of a run', parse)


def read_history(run: Path) -> pd.DataFrame:
    """The history of a finished run, one row an epoch, as `fit` returned it; UserError if it's damaged."""

    def parse(history):
        history = history.astype(float)
        limits = {'epoch': 1e6, 'train_accuracy': 1, 'valid_accuracy': 1, 'lr': 1e30, 'seconds': 1e12}
        for name, high in limits.items():
            known = history[name].dropna() if name == 'valid_accuracy' else history[name]  # NaN: no validation
            if not known.between(0, high).all():
                raise ValueError(f'{name} is not from 0 to {high:g}')
        if not len(history) or history.train_loss.empty or history.valid_loss.empty:
            raise ValueError('no epochs')
        return history

    return read_table(run / 'history.csv', 'history.csv of a run', parse)


def new_run_of(learn: Learner, config: Config) -> Path:
    """Create a run folder; its config.json has the options, recipe, classes, image size, fingerprint and versions."""
    dls = learn.dls
    images = fingerprint_images(dls)
    if len({*gathered(images)}) > 1:
        raise UserError(f'{dls.path} holds different images on different machines: copy one to the others')
    model = {'classes': list(dls.vocab), 'size': dls.size, 'resized': dls.resized}
    begun = {'images': images, 'left_out': len(dls.left_out), 'surroundings': environment()}
    return on_rank0(new_run)(config.out, config.name, {**config.as_json(), **model, **begun})
