"""Train an image classifier with fastai, and see why it is wrong: `python train_fastai.py --help`.

Each step takes what the one before returned, and each works in a notebook too:

    from train_fastai import *
    dls = get_dls('digits')
    learn = get_learner(dls)
    sweep = find_lr(learn)
    fit(learn, 5, sweep.lr)
    interp = GradCAMInterpretation.from_learner(learn)
    interp.plot_top_losses(9)
"""

import json
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Annotated

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # from inside fastai, nothing for its user to do

import pandas as pd
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.fp16 import AMPMode, MixedPrecision
from fastai.callback.progress import ProgressCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy
from fastai.optimizer import OptimWrapper
from fastai.torch_core import set_seed
from fastcore.basics import noop
from fastcore.imports import in_notebook
from fastcore.script import call_parse

from atomic import replacing
from callbacks.epoch import EpochToLoader
from callbacks.eta import ETA
from callbacks.history import History
from callbacks.lines import EpochLines
from callbacks.nan import StopOnNaN
from callbacks.plateau import plateau_cbs
from data.checks import BadImages, write_bad_images
from data.loaders import get_dls
from errors import UserError, ends_in_one_line
from interpret import plots
from interpret.interpretation import GradCAMInterpretation
from interpret.report import write_report
from models import cifar_resnet18
from recipes import PLATEAU, RECIPES, REFERENCE, Recipe, recipe_for
from run_folder import fingerprint, new_run, surroundings, write_json
from sweep import LRSweep, find_lr

__all__ = [
    'PLATEAU', 'REFERENCE', 'GradCAMInterpretation', 'LRSweep', 'Recipe', 'cifar_resnet18', 'find_lr', 'fit', 'get_dls',
    'get_learner', 'review',
]  # fmt: skip

# What the course project reports: ResNet-18 on the original CIFAR-10, the best of 50 epochs by the test set itself.
COURSE_PROJECT = {'max_train_accuracy': 0.9176, 'test_accuracy': 0.9033}


def get_learner(dls: DataLoaders, recipe: Recipe | None = None, path: str | Path = '.') -> Learner:
    """A Learner for `dls` by `recipe` (default: theirs), kept as `learn.recipe`; `path` is its run folder.

    Mixed precision on a GPU (bf16 where it has it), channels_last everywhere.
    """
    recipe = recipe or dls.recipe
    learn = Learner(
        dls,
        cifar_resnet18(len(dls.vocab), recipe.last_stride, recipe.dropout),
        loss_func=CrossEntropyLossFlat(label_smoothing=recipe.label_smoothing),
        # fastai's own SGD knows no Nesterov momentum; torch's `weight_decay` is the true L2
        opt_func=partial(OptimWrapper, opt=torch.optim.SGD, momentum=recipe.mom, nesterov=recipe.nesterov),
        wd=recipe.wd,
        metrics=accuracy,
        cbs=[EpochToLoader(), ChannelsLast()],
        path=path,
    )
    learn.recipe = recipe
    learn.recorder.train_metrics = True
    if dls.device.type == 'cuda':
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        learn.add_cb(MixedPrecision(AMPMode.BF16 if bf16 else AMPMode.FP16))
    if not _shows_bars():
        learn.remove_cb(ProgressCallback).logger = noop  # EpochLines prints instead
    return learn


def fit(learn: Learner, epochs: int | None = None, lr: float | None = None) -> pd.DataFrame:
    """Train by the Learner's recipe, keep the best weights, and return the history, one row an epoch.

    The learning rate starts at `lr` (default: the recipe's) and is cut on plateaus. Writes `history.csv` and
    `models/best.pth` in `learn.path`. Raises UserError where no epoch improved on nothing, as after a loss of NaN.
    """
    recipe = learn.recipe
    history = History(learn.path / 'history.csv')
    cbs = [*plateau_cbs(patience=recipe.patience, factor=recipe.factor), StopOnNaN(), history, ETA()]
    if not _shows_bars():
        cbs.append(EpochLines())
    learn.fit(recipe.epochs if epochs is None else epochs, recipe.lr if lr is None else lr, cbs=cbs)
    return history.table


def review(learn: Learner, out: str | Path) -> GradCAMInterpretation:
    """One pass over the test set; its mistakes, as pictures and as `mistakes.csv`, go to `out`."""
    out = Path(out)
    interp = GradCAMInterpretation.from_learner(learn)
    with replacing(out / 'mistakes.csv') as part:
        # a file's name need not be UTF-8
        interp.mistakes(k=None).to_csv(part, index=False, errors='surrogateescape')
    plots.save_figure(plots.plot_confusion(interp.confusion_matrix(), interp.vocab), out / 'plots/confusion_matrix.png')
    plots.save_figure(interp.plot_gradcam(25), out / 'plots/gradcam_mistakes.png')
    return interp


def conclude(learn: Learner, history: pd.DataFrame, test_selected_on: bool, seconds: Callable[[], float]) -> None:
    """Review the kept weights on the test set, write `summary.json`, print it beside the course's, write the page.

    `seconds` is asked how long the run took after the test set's pass and its pictures, which are part of it.
    """
    interp, best = review(learn, learn.path), history.loc[history.valid_loss.idxmin()]
    summary = {
        'parameters': sum(p.numel() for p in learn.model.parameters()),
        'lr': history.lr[0],
        'best_epoch': int(best.epoch),
        'best_valid_accuracy': best.valid_accuracy,
        'max_train_accuracy': history.train_accuracy.max(),
        'test_accuracy': (interp.decoded == interp.targs).float().mean().item(),
        'test_loss': interp.losses.mean().item(),
        'test_selected_on': test_selected_on,
        'seconds': round(seconds(), 1),
        'course_project': COURSE_PROJECT,
    }
    write_json(learn.path / 'summary.json', summary)
    write_report(interp, learn.path)
    print('{:20} {:>9} {:>25}'.format('', 'this run', 'course project (CIFAR-10)'))
    for key, theirs in COURSE_PROJECT.items():
        print(f'{key.replace("_", " "):20} {summary[key]:>9.2%} {theirs:>25.2%}')
    print("The course project's epoch was chosen by its test set, and its dropout stayed on in evaluation.")
    if test_selected_on:
        print('This test accuracy was selected on: the test set chose the epoch, as it did in the course project.')
    print(f'weights, tables and pictures: {learn.path}\nthe mistakes, to look through: {learn.path / "report.html"}')


def load_run(run: str | Path) -> Learner:
    """The Learner of a finished run, with its images and kept weights; UserError where they are no longer there."""
    run = Path(run).expanduser()
    if not (run / 'summary.json').is_file():
        raise UserError(f'{run} is no finished run: it has no summary.json')
    config = json.loads((run / 'config.json').read_text(encoding='utf-8'))
    options = {o: config[o] for o in ('bs', 'valid', 'fraction', 'seed', 'skip_bad')}
    dls = get_dls(config['data'], Recipe(**config['recipe']), num_workers=config['workers'], **options)
    if _fingerprint(dls) != config['images']:
        raise UserError(f'the images of {config["data"]} are no longer those of {run}: train anew')
    learn = get_learner(dls, path=run)
    try:
        return learn.load('best', with_opt=False, weights_only=True)  # what a pickle says besides is not done
    except (pickle.UnpicklingError, RuntimeError, EOFError) as e:
        raise UserError(f"{run / 'models/best.pth'} doesn't hold the weights of this run: train anew") from e


def review_again(run: str | Path) -> None:
    """Make the review of a finished run anew, without training."""
    learn = load_run(run)
    summary = json.loads((learn.path / 'summary.json').read_text(encoding='utf-8'))
    history = pd.read_csv(learn.path / 'history.csv')
    conclude(learn, history, summary['test_selected_on'], seconds=lambda: summary['seconds'])


def _fingerprint(dls: DataLoaders) -> str:
    """Of all the images of a run."""
    return fingerprint(dls.path, sorted({file for dl in dls.loaders for file in dl.dataset.items}))


def _listed(bad: list[tuple[Path, str]], folder: Path) -> str:
    """Write `bad` to `folder`/bad_images.csv, and say so."""
    older = ', instead of an older list' if (folder / 'bad_images.csv').exists() else ''
    return f'all are listed with the reason in {write_bad_images(folder, bad)}{older}'


def _shows_bars() -> bool:
    """Whether the output can draw a progress bar."""
    return in_notebook() or sys.stdout.isatty()


def _between(low: float, value: float | str, high: float) -> bool:
    return isinstance(value, int | float) and low < value < high


def _check(option: str, value, fine: bool, allowed: str) -> None:
    if not fine:
        raise UserError(f'--{option} {value}: {allowed}')


@call_parse
def main(
    data: str = 'cifar10',  # cifar10, digits, or a folder (or .tgz) with train/<class>/ and test/<class>/
    recipe: Annotated[str, {'choices': list(RECIPES)}] = 'plateau',  # how to train, see recipes.py
    epochs: int | None = None,  # passes over the training images: 50, for digits 11
    bs: int | None = None,  # images a batch: 128, for digits 64
    lr: float | str = 'auto',  # learning rate; auto: what the sweep suggests
    valid: float | str = 0.1,  # fraction of the training images that drives the callbacks; test: the test set does
    fraction: float = 1.0,  # part of the training images to use, for a quick look
    seed: int = 42,  # of everything that is random
    workers: int | None = None,  # processes that load images: none on a CPU, up to 8 for a GPU
    out: str = 'runs',  # folder of all runs
    name: str | None = None,  # the run's own folder in it; a time stamp if not given
    skip_bad: bool = False,  # leave out files that can't be used as images, and list them in bad_images.csv
    review: str | None = None,  # only make the review of this finished run anew, by its own options
):
    """Train an image classifier with fastai, and see why it is wrong."""
    options, start = locals(), perf_counter()
    sys.stdout.reconfigure(line_buffering=True)  # else a log file gets the ETA when the run is over
    chosen = recipe_for(data, recipe)
    chosen = replace(chosen, epochs=chosen.epochs if epochs is None else epochs, bs=chosen.bs if bs is None else bs)
    with ends_in_one_line('train_fastai.py'):
        if review:
            return review_again(review)
        _check('epochs', epochs, chosen.epochs >= 1, 'at least 1')
        _check('bs', bs, chosen.bs >= 2, 'at least 2, since BatchNorm needs more than one image')
        _check('lr', lr, lr == 'auto' or _between(0, lr, inf), 'a number above 0, or auto')
        _check('valid', valid, valid == 'test' or _between(0, valid, 1), 'between 0 and 1, or test')
        _check('fraction', fraction, fraction == 1 or _between(0, fraction, 1), 'above 0, at most 1')
        _check('seed', seed, 0 <= seed < 2**32, 'from 0 to 2**32 - 1')
        _check('workers', workers, workers is None or workers >= 0, '0 or more')

        set_seed(seed)
        try:
            dls = get_dls(data, chosen, chosen.bs, valid, fraction, seed, workers, skip_bad)
        except BadImages as e:
            raise UserError(f'{e}; {_listed(e.bad, Path(out).expanduser())}') from e
        sizes = [len(dl.dataset) for dl in dls.loaders]
        print('{}: {:,} training, {:,} validation, {:,} test images'.format(data, *sizes))
        run = new_run(out, name)
        if dls.left_out:
            print(f'files left out: {len(dls.left_out):,}; {_listed(dls.left_out, run)}')
        config = {
            **options,
            'epochs': chosen.epochs,
            'bs': chosen.bs,
            'recipe_name': recipe,
            'recipe': asdict(chosen),
            'left_out': len(dls.left_out),
        }
        write_json(run / 'config.json', {**config, **surroundings(), 'images': _fingerprint(dls)})

        learn = get_learner(dls, path=run)
        for cls in dls.vocab:
            plots.save_figure(plots.plot_augmented(dls, cls), run / f'plots/augmented/{cls}.png')

        if lr == 'auto':
            sweep = find_lr(learn)
            lr = sweep.lr
            print(f'lr {lr:.3g}: {sweep.rule}, {sweep.reason}')
            plots.save_figure(plots.plot_sweep(sweep), run / 'plots/lr_find.png')

        history = fit(learn, lr=lr)
        plots.save_figure(plots.plot_history(history), run / 'plots/accuracy.png')
        plots.save_figure(plots.plot_history_panels(history), run / 'plots/accuracy_loss.png')
        conclude(learn, history, valid == 'test', seconds=lambda: perf_counter() - start)
