#!/usr/bin/env python3
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
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # from inside fastai, nothing for its user to do

from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.torch_core import rank_distrib, set_seed
from fastcore.script import call_parse

from architectures import with_network
from callbacks.tracking import TOOLS, refuse_missing, tracked
from command_line import one_screen
from conclusion import conclude, review_again
from data.balance import imbalance
from data.checks import BadImages, write_bad_images
from data.loaders import get_dls
from errors import UserError, ends_in_one_line
from interpret import plots
from interpret.interpretation import GradCAMInterpretation
from interpret.review import review
from learner import fit, get_learner
from models import cifar_resnet18
from options import loader_options, read_config, refuse_conflicts, settle
from ranks import first_on_its_machine, one_of_several, rank0
from recipes import PLATEAU, RECIPES, REFERENCE, SPEEDRUN, Recipe
from reopen import name_changes, refuse_other_images, says_how_to_go_on
from run_folder import fingerprint_images, locked, new_run, remove_leftovers, surroundings, write_json
from sweep import LRSweep, find_lr

__all__ = [
    'PLATEAU', 'REFERENCE', 'SPEEDRUN', 'GradCAMInterpretation', 'LRSweep', 'Recipe', 'cifar_resnet18', 'find_lr',
    'fit', 'get_dls', 'get_learner', 'review', 'with_network',
]  # fmt: skip


def train(learn: Learner, options: dict, cbs: Sequence[Callback] = ()) -> None:
    """The whole job in the run folder `learn.path`: augmented samples, sweep, training, review, summary and page.

    `cbs` are called in the training besides those of `fit`. What the folder has already, the sweep's result and a
    checkpoint, is where it goes on.
    """
    run, sweep = learn.path, None

    def draw(name, plot, *args):
        rank0(lambda: plots.save_figure(plot(*args), run / f'plots/{name}.png'))

    for cls in learn.dls.vocab:
        draw(f'augmented/{cls}', plots.plot_augmented, learn.dls, cls)
    if options['lr'] == 'auto' and learn.recipe.lr_rule != 'none':
        sweep = rank0(_swept, learn)
        print(f'lr {sweep.lr:.3g}: {sweep.rule}, {sweep.reason}')
        draw('lr_find', plots.plot_sweep, sweep)

    lr = sweep.lr if sweep else learn.recipe.lr if options['lr'] == 'auto' else options['lr']
    history = fit(learn, lr=lr, checkpoint_minutes=options['checkpoint_minutes'], resume=True, cbs=cbs)
    draw('accuracy', plots.plot_history, history)
    draw('accuracy_loss', plots.plot_history_panels, history)
    seconds = history.seconds.sum() + (sweep.seconds if sweep else 0)
    rank0(conclude, learn, history, lr, options['valid'] == 'test', seconds)


def _swept(learn: Learner) -> LRSweep:
    """The result of the learning rate sweep, kept in the run folder from the first time on."""
    file = learn.path / 'sweep.json'
    if file.is_file():
        try:
            return LRSweep(**json.loads(file.read_text(encoding='utf-8')))
        except (ValueError, TypeError) as e:
            raise UserError(f'{file} is no sweep: delete it, to sweep again') from e
    sweep = find_lr(learn)
    write_json(file, asdict(sweep))
    return sweep


@call_parse
@one_screen
def main(
    data: str | None = None,  # cifar10 (default), digits, a folder or a .tgz
    recipe: Annotated[str | None, {'choices': list(RECIPES)}] = None,  # plateau (default), speedrun or reference
    arch: str | None = None,  # torchvision's name of a classifier: resnet18
    pretrained: bool = False,  # begin with ImageNet's weights
    size: int | None = None,  # pixels a side: as they are if small, else 224
    epochs: int | None = None,  # passes over the training images; the recipe's
    bs: int | None = None,  # images a batch; the recipe's
    lr: float | str | None = None,  # learning rate; auto (default): by a sweep
    valid: float | str | None = None,  # part to hold out; test: use the test set
    fraction: float | None = None,  # part of the training images to use: 1
    seed: int | None = None,  # of everything that is random: 42
    workers: int | None = None,  # processes that load images: as needed
    checkpoint_minutes: float | None = None,  # between checkpoints in an epoch: 5
    out: str | None = None,  # the folder of all runs: runs
    name: str | None = None,  # the run's own folder in it: a time stamp
    track: Annotated[str | None, {'choices': list(TOOLS)}] = None,  # log to tensorboard or wandb
    skip_bad: bool = False,  # leave out unusable files
    config: str | None = None,  # repeat the run of this config.json
    resume: str | None = None,  # go on with the stopped run in this folder
    review: str | None = None,  # review the finished run in this folder anew
):
    """Train an image classifier with fastai, and see why it is wrong."""
    given = {option: value for option, value in locals().items() if value is not None and value is not False}
    modes = [mode for mode in ('config', 'resume', 'review') if given.pop(mode, None) is not None]
    with ends_in_one_line('train_fastai.py'), one_of_several():
        if len(modes) > 1 or ('review' in modes and given):
            raise UserError(f'--{modes[0]} goes without --{[*modes[1:], *given][0].replace("_", "-")}')
        if 'review' in modes:
            return rank0(review_again, review)
        kept = rank0(read_config, Path(config).expanduser()) if 'config' in modes else None
        if 'resume' in modes:
            run = Path(resume).expanduser()
            kept = rank0(read_config, run / 'config.json')
            refuse_conflicts(given, kept, run)
            if rank0((run / 'report.html').is_file):
                return print(f'{run} is finished, see {run / "report.html"}')
        options, made_by = rank0(settle, given, kept)
        rank0(refuse_missing, options['track'])

        set_seed(options['seed'])
        try:
            with first_on_its_machine():
                dls = get_dls(**loader_options(options, made_by))
        except BadImages as e:
            out = run if 'resume' in modes else Path(options['out']).expanduser()
            older = ', instead of an older list' if (out / 'bad_images.csv').exists() else ''
            listed = f'all are listed with the reason in {write_bad_images(out, e.bad)}{older}'
            raise UserError(f'{e}; {listed}') from e
        sizes = [len(dl.dataset) for dl in dls.loaders]
        print('{}: {:,} training, {:,} validation, {:,} test images'.format(options['data'], *sizes))
        if unbalanced := imbalance(dls.class_counts):
            print(unbalanced)
        with first_on_its_machine():
            learn = get_learner(dls)  # before there's a folder: it may not take such images, or find no weights
        if kept:
            name_changes(kept)
        if 'resume' in modes:
            refuse_other_images(dls, kept, run)
        else:
            begun = {'images': fingerprint_images(dls), 'left_out': len(dls.left_out), 'surroundings': surroundings()}
            if rank0(begun.get, 'images') != begun['images']:
                raise UserError(f'{dls.path} has other images than on the machine of rank 0')
            model = {'recipe': asdict(made_by), 'classes': list(dls.vocab), 'size': dls.size, 'resized': dls.resized}
            run = rank0(new_run, options['out'], options['name'], {'options': options, **model, **begun})
        if dls.left_out:
            listed = rank0(write_bad_images, run, dls.left_out)
            print(f'files left out: {len(dls.left_out):,}; all are listed with the reason in {listed}')
        tool = 'none' if rank_distrib() else options['track']
        with locked(run), says_how_to_go_on(run), tracked(tool, run) as cbs:
            rank0(remove_leftovers, run)
            learn.path = run
            train(learn, options, cbs)
