#!/usr/bin/env python3
"""Train an image classifier with fastai, and see why it is wrong: `python train_fastai.py --help`.

Each step takes the previous step's result, and all of them work in a notebook too:

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

from config.command_line import MODES, train_parser
from runtime.errors import exit_on_interrupt

if __name__ == '__main__':
    exit_on_interrupt('train_fastai.py')
    OPTIONS = vars(train_parser().parse_args())  # before PyTorch is imported, which takes seconds

from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import Any

from fastai.vision.all import Learner, set_seed

from callbacks.trackers.tracking import refuse_missing, tracked
from config import FINETUNE, HOUR, PLATEAU, REFERENCE, SPEEDRUN, Recipe
from config.options import Config, resolve_config, resume_config
from config.saved import read_config
from data import get_dls
from data.duplicates import write_duplicates
from data.fingerprint import refuse_other_images
from data.loaders import load_dls
from data.own_augment import read_augment
from data.samples import draw_samples
from data.verify import BadImages, report_left_out, unbalanced_line, write_bad_images
from interpret import GradCAMInterpretation, review
from interpret.review import review_again, review_run
from models import cifar_resnet18, with_network
from models.backbones import check_arch
from models.build import check_network
from models.speednet import SPEEDNETS
from runtime.errors import UserError, ends_in_one_line, printable
from runtime.processes import first_on_its_machine, on_rank0, one_of_several
from runtime.run_folder import locked, name_changes, open_run, refuse_name, remove_leftovers, resume_hint
from training import LRSweep, find_lr, fit, get_learner
from training.auto_recipe import auto_recipe
from training.compile import refuse_uncompilable
from training.finished import is_finished, marked_unfinished
from training.lr_finder import choose_lr
from training.saved_run import new_run_of

__all__ = [
    'FINETUNE', 'HOUR', 'PLATEAU', 'REFERENCE', 'SPEEDRUN', 'GradCAMInterpretation', 'LRSweep', 'Recipe',
    'cifar_resnet18', 'find_lr', 'fit', 'get_dls', 'get_learner', 'review', 'with_network',
]  # fmt: skip


def main(**options: Any) -> None:
    """Run the command with the command line's `options`, named with underscores; SystemExit for an error."""
    given = {name: value for name, value in options.items() if value is not None}
    modes = [mode for mode in MODES if mode in given]
    earlier = given.pop(modes[0]) if modes else None
    with ends_in_one_line('train_fastai.py'), one_of_several():
        if 'augment' in given:
            given['augment'] = read_augment(given['augment'])
        if len(modes) > 1:
            raise UserError(f'--{modes[0]} goes without --{modes[1]}')
        if 'review' in modes:
            if others := sorted(given.keys() - {'data', 'workers', 'verdicts'}):
                raise UserError(f'--review goes without --{others[0].replace("_", "-")}')
            review_again(earlier, given)
        elif 'verdicts' in given:
            raise UserError('--verdicts goes with --review')
        elif 'resume' in modes:
            resume(earlier, given)
        else:
            start(given, earlier)


def start(given: dict[str, Any], repeated: str | None = None) -> None:
    """Train and review in a new run folder, with the options `given`, else those of the `repeated` run."""
    saved = on_rank0(read_config)(Path(expanduser(repeated))) if repeated else None
    base = saved.config if saved else None
    auto = given.get('recipe', None if saved else 'auto') == 'auto'
    config = resolve_config({**given, 'recipe': 'plateau'} if auto else given, base)
    on_rank0(refuse_name)(config.out, config.name)
    refuse_unavailable(config)
    if auto:
        config = resolve_config({**given, 'recipe': auto_recipe(config, 'arch' in given)}, base)
    config = replace(config, recipe=check_network(config.recipe))
    learn = load(config, Path(expanduser(config.out)))
    if saved:
        name_changes(saved.environment)
    finish(learn, config, new_run_of(learn, config))


def resume(folder: str, given: dict[str, Any]) -> None:
    """Finish a stopped run with its own options; UserError if a `given` option would change its result."""
    run = on_rank0(open_run)(folder)
    saved = on_rank0(read_config)(run)
    config = resume_config(given, saved.config, run)
    if on_rank0(is_finished)(run):
        return print(printable(f'{run} is finished, see {run / "report.html"}'))
    refuse_unavailable(config)
    learn = load(config, run)
    name_changes(saved.environment)
    refuse_other_images(learn.dls, saved.images, run)
    finish(learn, config, run, resume=True)


def refuse_unavailable(config: Config) -> None:
    """Raise UserError if the tracker, the network or the compiler that `config` needs is missing."""
    on_rank0(refuse_missing)(config.track)
    if config.recipe.arch not in SPEEDNETS:
        check_arch(config.recipe.arch)
    if config.compile:
        refuse_uncompilable()


def load(config: Config, folder: Path) -> Learner:
    """Load the images and return the Learner. The run folder is created later, since this step may fail.

    Raises UserError for unusable images, which are all listed in `folder`, and for missing pretrained weights.
    """
    set_seed(config.seed)
    try:
        with first_on_its_machine():
            dls = load_dls(config)
    except BadImages as e:
        older = ' (replaces the older list)' if (folder / 'bad_images.csv').exists() else ''
        listed = f'all are listed with the reason in {write_bad_images(folder, e.bad)}{older}'
        raise UserError(f'{e}; {listed}') from e
    sizes = [len(dl.dataset) for dl in dls.loaders]
    print('{}: {:,} training, {:,} validation, {:,} test images'.format(printable(config.data), *sizes))
    if line := unbalanced_line(dls.class_counts):
        print(printable(line))
    with first_on_its_machine():
        return get_learner(dls, path=folder)


def finish(learn: Learner, config: Config, run: Path, resume: bool = False) -> None:
    """Draw samples, sweep, train and review in the folder `run`. Existing results are kept."""
    learn.path = run
    mark = marked_unfinished(run, config.keep_checkpoints)
    with locked(run), resume_hint(run), mark, tracked(config.track, run) as cbs:
        remove_leftovers(run)
        report_left_out(run, learn.dls.left_out)
        write_duplicates(run, learn.dls.duplicates)
        draw_samples(learn.dls, run)
        lr = choose_lr(learn)
        history = fit(learn, None, lr, config.checkpoint_minutes, resume, cbs, config.compile)
        review_run(learn, history, config)


if __name__ == '__main__':
    main(**OPTIONS)
