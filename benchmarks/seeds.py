"""Measure test accuracy against minutes: train a recipe for each number of epochs and each seed.

    python benchmarks/seeds.py --recipe speedrun --epochs 5 10 --seeds 3
    python benchmarks/seeds.py --recipe plateau --seeds 5

Started again, it keeps finished runs and resumes the interrupted one; a changed recipe needs another `out`. Writes one
row per run to seeds.csv in `out`, prints a Markdown table of means and standard deviations, and plots accuracy against
minutes. The minutes cover checking and decoding the images, training, and predicting the test set once, but not the
recipe's sweep, if any, or the review.
"""

import sys
from dataclasses import replace
from functools import partial
from os.path import expanduser
from pathlib import Path
from time import perf_counter
from typing import Annotated

sys.path.insert(0, str(Path(__file__).parents[1]))

import pandas as pd
from fastai.torch_core import set_seed
from fastcore.script import call_parse
from matplotlib.ticker import PercentFormatter

from benchmarks.rows import measured
from config.recipes import recipe_for
from interpret.review import COURSE_PROJECT
from runtime.errors import ends_in_one_line
from runtime.figures import new_figure, save_figure
from train_fastai import GradCAMInterpretation, find_lr, fit, get_dls, get_learner


def run(recipe: str, epochs: int, seed: int, data: str, folder: Path) -> dict:
    """Train, or resume, one run in its own folder in `folder`, and test it."""
    path = folder / f'{recipe}-epochs{epochs}-seed{seed}'
    set_seed(seed)
    start = perf_counter()
    dls = get_dls(data, replace(recipe_for(data, recipe), epochs=epochs), seed=seed)
    loaded = perf_counter()
    learn = get_learner(dls, path=path)
    lr = None if learn.recipe.lr_rule == 'none' else find_lr(learn).lr
    history = fit(learn, lr=lr, resume=True)
    trained = perf_counter()
    interp = GradCAMInterpretation.from_learner(learn)
    seconds = {'loading': loaded - start, 'training': history.seconds.sum(), 'testing': perf_counter() - trained}
    row = {'lr': lr or learn.recipe.lr, 'test_accuracy': (interp.decoded == interp.targs).float().mean().item()}
    return row | {f'{part}_minutes': value / 60 for part, value in {**seconds, 'all': sum(seconds.values())}.items()}


def plot(table: pd.DataFrame, file: Path) -> None:
    """Plot accuracy against minutes, with the course project's result."""
    fig, axs = new_figure(figsize=(7, 5), layout='constrained')
    for (recipe, epochs), runs in table.groupby(['recipe', 'epochs']):
        axs[0, 0].plot(runs.all_minutes, runs.test_accuracy, 'o', markersize=5, label=f'{recipe}, {epochs} epochs')
    minutes, course = 29, COURSE_PROJECT['test_accuracy']
    axs[0, 0].plot(minutes, course, 'k*', label='course project, original images, a GPU')
    axs[0, 0].set(xlabel='minutes', ylabel='test accuracy', xlim=(0, 1.1 * max(minutes, table.all_minutes.max())))
    axs[0, 0].yaxis.set_major_formatter(PercentFormatter(1, decimals=2))
    fig.legend(loc='outside lower center', ncols=2)  # away from the points
    save_figure(fig, file)


@call_parse
def main(
    recipe: str = 'speedrun',  # as --recipe of train_fastai.py
    epochs: Annotated[int, {'nargs': '+'}] = (),  # one or more numbers of epochs; by default the recipe's
    seeds: int = 3,  # number of runs, with seeds 0, 1, ...
    data: str = 'cifar10',  # as --data of train_fastai.py
    out: str = 'runs/seeds',  # folder of the runs
):
    """Measure test accuracy against minutes for several seeds."""
    folder = Path(expanduser(out))
    epochs = epochs or [recipe_for(data, recipe).epochs]
    cases = [{'recipe': recipe, 'epochs': n, 'seed': seed} for seed in range(seeds) for n in epochs]
    with ends_in_one_line('seeds.py'):
        table = measured(folder / 'seeds.csv', cases, partial(run, data=data, folder=folder))
    plot(table, folder / 'seeds.png')
    print('| recipe | epochs | seeds | test accuracy | training | all |\n|---|---|---|---|---|---|')
    for (name, n), runs in table.groupby(['recipe', 'epochs']):
        accuracy = f'{runs.test_accuracy.mean():.2%}' + (f' ± {runs.test_accuracy.std():.2%}' if len(runs) > 1 else '')
        times = f'{runs.training_minutes.mean():.1f} min | {runs.all_minutes.mean():.1f} min'
        print(f'| `{name}` | {n} | {len(runs)} | {accuracy} | {times} |')
