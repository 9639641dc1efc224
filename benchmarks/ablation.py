"""What each ingredient of a recipe is worth: it without one at a time, on a fraction of the training images.

    python benchmarks/ablation.py --recipe speedrun
    python benchmarks/ablation.py --recipe plateau --fraction 0.1 --epochs 15

A tenth of the images is held out and judges, by the weights of the last epoch; the test set plays no part. Started
again, it keeps the runs that are finished; a recipe that has changed needs another `out`. Writes a row a run to
`out`/RECIPE.csv, and prints a Markdown table of means and their standard deviations. What little data and few epochs
say need not hold for all of them.
"""

import sys
from dataclasses import replace
from functools import partial
from os.path import expanduser
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastai.torch_core import set_seed
from fastcore.script import call_parse

from benchmarks.rows import measured
from recipes import PLATEAU, RECIPES
from train_fastai import fit, get_dls, get_learner

WITHOUT = {
    'plateau': {
        'Nesterov': {'nesterov': False},
        'label smoothing': {'label_smoothing': 0.0},
        'pad and crop': {'pad': 0.0},
        'flip': {'flip': 0.0},
        'Cutout': {'hole': 0.0},
        'a stride in the last stage': {'last_stride': 1},
        'half the L2': {'wd': PLATEAU.wd / 2},
    },
    'speedrun': {
        'small images first': {'sizes': (1.0,)},
        'test-time views': {'test_views': False},
        'lookahead': {'lookahead': False},
        'faster biases': {'bias_lr': 1.0},
        'alternating flip': {'alternating_flip': False},
        'any flip': {'flip': 0.0, 'alternating_flip': False},
        'pad and crop': {'pad': 0.0},
        'label smoothing': {'label_smoothing': 0.0},
        'Nesterov': {'nesterov': False},
        'triangle: a constant rate, cut on plateaus': {'schedule': 'plateau', 'patience': 1, 'factor': 5.0},
    },
}


def train(without: str, seed: int, name: str, data: str, fraction: float, epochs: int) -> dict:
    """How a run by the recipe `name` without one ingredient ended, with `total_seconds` of its training."""
    changes = WITHOUT[name][without] if without != 'nothing' else {}
    with TemporaryDirectory() as out:
        set_seed(seed)
        dls = get_dls(data, replace(RECIPES[name], **changes), valid=0.1, fraction=fraction, seed=seed)
        history = fit(get_learner(dls, path=out), epochs)
    last = history.iloc[-1][['train_loss', 'valid_loss', 'valid_accuracy']]
    return {**last, 'total_seconds': history.seconds.sum()}


@call_parse
def main(
    recipe: str = 'speedrun',  # or plateau
    data: str = 'cifar10',  # what --data of train_fastai.py takes
    fraction: float = 0.2,  # of the training images
    epochs: int = 5,
    seeds: int = 2,  # 0, 1, ...: so many runs of each
    out: str = 'runs/ablation',  # folder of the table
):
    """Train a recipe without one ingredient at a time."""
    file = Path(expanduser(out)) / f'{recipe}.csv'
    cases = [{'without': name, 'seed': seed} for seed in range(seeds) for name in ('nothing', *WITHOUT[recipe])]
    one = partial(train, name=recipe, data=data, fraction=fraction, epochs=epochs)
    by_name = measured(file, cases, one).groupby('without', sort=False)
    means, deviations = by_name.mean(), by_name.valid_accuracy.std()
    print('| without | valid accuracy | less than with all | training |\n|---|--:|--:|--:|')
    for name, row in means.iterrows():
        less = f'{100 * (means.valid_accuracy.iloc[0] - row.valid_accuracy):+.2f} points' if name != 'nothing' else ''
        accuracy = f'{row.valid_accuracy:.2%} ± {deviations[name]:.2%}'
        print(f'| {name} | {accuracy} | {less} | {row.total_seconds:.0f} s |')
