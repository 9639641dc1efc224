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

from own_modules import refuse_hidden_modules

refuse_hidden_modules()

from errors import exit_on_interrupt

if __name__ == '__main__':
    exit_on_interrupt('train_fastai.py')

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from os.path import expanduser
from pathlib import Path
from typing import Annotated, Any

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # from inside fastai, nothing for its user to do

from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.torch_core import rank_distrib, set_seed
from fastcore.script import call_parse

from architectures import with_network
from bars import progress
from callbacks.tracking import TOOLS, refuse_missing, tracked
from checked_file import read_json
from command_line import one_screen
from compiled import refuse_uncompilable
from conclusion import conclude, review_again
from data.balance import imbalance
from data.checks import BadImages, write_bad_images
from data.duplicates import write_duplicates
from data.loaders import get_dls
from errors import UserError, ends_in_one_line, printable
from finished import is_finished, marked_unfinished
from interpret import plots
from interpret.figures import save_figure
from interpret.interpretation import GradCAMInterpretation
from interpret.review import review
from learner import get_learner
from models import cifar_resnet18
from options import loader_options, read_config, refuse_conflicts, settle
from ranks import first_on_its_machine, one_of_several, rank0
from recipes import HOUR, PLATEAU, RECIPES, REFERENCE, SPEEDRUN, Recipe
from reopen import name_changes, refuse_other_images, says_how_to_go_on
from run_folder import begin, locked, open_run, remove_leftovers, write_json
from sweep import LRSweep, find_lr
from training import fit

__all__ = [
    'HOUR', 'PLATEAU', 'REFERENCE', 'SPEEDRUN', 'GradCAMInterpretation', 'LRSweep', 'Recipe', 'cifar_resnet18',
    'find_lr', 'fit', 'get_dls', 'get_learner', 'review', 'with_network',
]  # fmt: skip


def load(options: dict[str, Any], recipe: Recipe, folder: Path) -> Learner:
    """The Learner and its images, before there's a run: they may not fit, or their weights not be there.

    UserError for images that can't be used, which are all listed in `folder`.
    """
    try:
        with first_on_its_machine():
            dls = get_dls(**loader_options(options, recipe))
    except BadImages as e:
        older = ', instead of an older list' if (folder / 'bad_images.csv').exists() else ''
        listed = f'all are listed with the reason in {write_bad_images(folder, e.bad)}{older}'
        raise UserError(f'{e}; {listed}') from e
    sizes = [len(dl.dataset) for dl in dls.loaders]
    print('{}: {:,} training, {:,} validation, {:,} test images'.format(printable(options['data']), *sizes))
    if unbalanced := imbalance(dls.class_counts):
        print(printable(unbalanced))
    with first_on_its_machine():
        return get_learner(dls, path=folder)


def train(learn: Learner, options: dict[str, Any], cbs: Sequence[Callback] = (), resume: bool = False) -> None:
    """The whole job in the run folder `learn.path`: augmented samples, sweep, training, review, summary and page.

    `cbs` are called in the training besides those of `fit`. `resume` goes on from the folder's checkpoint. A sweep's
    result and pictures that are there already stay.
    """
    run, sweep = learn.path, None
    rank0(write_duplicates, run, learn.dls.duplicates)

    def draw(name, plot, *args):
        file = run / f'plots/{name}.png'
        rank0(lambda: file.is_file() or save_figure(plot(*args), file))

    for cls in progress(list(learn.dls.vocab), 'augmented samples'):
        draw(f'augmented/{cls}', plots.plot_augmented, learn.dls, cls)
    if options['lr'] == 'auto' and learn.recipe.lr_rule != 'none':
        sweep = rank0(_swept, learn)
        print(f'lr {sweep.lr:.3g}: {sweep.rule}, {printable(sweep.reason)}')
        draw('lr_find', plots.plot_sweep, sweep)

    lr = sweep.lr if sweep else learn.recipe.lr if options['lr'] == 'auto' else options['lr']
    given = {name: options[name] for name in ('checkpoint_minutes', 'compile')}
    history = fit(learn, lr=lr, resume=resume, cbs=cbs, **given)
    draw('accuracy', plots.plot_history, history)
    draw('accuracy_loss', plots.plot_history_panels, history)
    seconds = history.seconds.sum() + (sweep.seconds if sweep else 0)
    if not rank0((run / 'report.html').is_file):  # with it only the tracker has something left to log
        rank0(conclude, learn, history, lr, options['valid'] == 'test', seconds)


def _swept(learn: Learner) -> LRSweep:
    """The result of the learning rate sweep, kept in the run folder from the first time on."""
    file = learn.path / 'sweep.json'
    if file.is_file():
        return read_json(file, 'sweep', LRSweep.from_dict, nan=True, way_out='delete it, to sweep again')
    sweep = find_lr(learn)
    write_json(file, asdict(sweep))
    return sweep


@call_parse
@one_screen
def main(
    data: str | None = None,  # cifar10 (default), digits, a folder or a .tgz
    recipe: Annotated[str | None, {'choices': list(RECIPES)}] = None,  # plateau (default), speedrun, hour or reference
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
    compile: bool = False,  # train by torch.compile's code
    checkpoint_minutes: float | None = None,  # between checkpoints in an epoch: 5
    keep_checkpoints: bool = False,  # also when the run is finished
    out: str | None = None,  # the folder of all runs: runs
    name: str | None = None,  # the run's own folder in it: a time stamp
    track: Annotated[str | None, {'choices': list(TOOLS)}] = None,  # log to tensorboard or wandb
    skip_bad: bool = False,  # leave out unusable files
    config: str | None = None,  # repeat this run: its folder or config.json
    resume: str | None = None,  # go on with the stopped run in this folder
    review: str | None = None,  # review the finished run in this folder anew
):
    """Train an image classifier with fastai, and see why it is wrong."""
    given = {option: value for option, value in locals().items() if value is not None and value is not False}
    modes = [mode for mode in ('config', 'resume', 'review') if given.pop(mode, None) is not None]
    with ends_in_one_line('train_fastai.py'), one_of_several():
        if len(modes) > 1 or ('review' in modes and given.keys() - {'data', 'workers'}):
            others = [*modes[1:], *(option for option in given if option not in ('data', 'workers'))]
            raise UserError(f'--{modes[0]} goes without --{others[0].replace("_", "-")}')
        if 'review' in modes:
            return rank0(review_again, review, **given)
        kept = rank0(read_config, Path(expanduser(config))) if 'config' in modes else None
        if 'resume' in modes:
            run = rank0(open_run, resume)
            kept = rank0(read_config, run / 'config.json')
            refuse_conflicts(given, kept, run)
            if rank0(is_finished, run):
                return print(printable(f'{run} is finished, see {run / "report.html"}'))
        options, made_by = rank0(settle, given, kept)
        if 'resume' in modes:
            made_by = kept['recipe']  # whatever its images are called now
        rank0(refuse_missing, options['track'])
        if options['compile']:
            refuse_uncompilable()

        set_seed(options['seed'])
        learn = load(options, made_by, run if 'resume' in modes else Path(expanduser(options['out'])))
        if kept:
            name_changes(kept)
        if 'resume' in modes:
            refuse_other_images(learn.dls, kept, run)
        else:
            run = begin(learn, options, made_by)
        if learn.dls.left_out:
            listed = rank0(write_bad_images, run, learn.dls.left_out)
            left_out = f'files left out: {len(learn.dls.left_out):,}'
            print(f'{left_out}; all are listed with the reason in {printable(listed)}')
        tool = 'none' if rank_distrib() else options['track']
        mark = marked_unfinished(run, options['keep_checkpoints'])
        with locked(run), says_how_to_go_on(run), mark, tracked(tool, run) as cbs:
            rank0(remove_leftovers, run)
            learn.path = run
            train(learn, options, cbs, 'resume' in modes)
