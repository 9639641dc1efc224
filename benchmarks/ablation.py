"""Measure what each ingredient of a recipe adds: train without one at a time, on a fraction of the training images.

    python benchmarks/ablation.py --recipe speedrun
    python benchmarks/ablation.py --recipe plateau --fraction 0.1 --epochs 15

The accuracy is measured on training images that the run hasn't seen; the test set is not used. Started again, it
keeps finished runs; other data or a changed recipe need another `out`. Writes one row per run to a table in `out` and
prints a Markdown table of means and standard deviations. Results on little data and in few epochs need not hold for
full runs. `plateau` uses the schedule of `speedrun` here: in few epochs its own makes too few learning-rate cuts, or
none, which would leave the results to chance.
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
from config.recipes import PLATEAU, RECIPES, SPEEDRUN
from data.sources import find_images
from runtime.errors import UserError, ends_in_one_line
from train_fastai import fit, get_dls, get_learner

JUDGES = 5_000  # maximum number of unseen images: two minutes on a CPU, in the six views of `speedrun`

BASES = RECIPES | {'plateau': replace(PLATEAU, schedule='triangle')}

WITHOUT = {
    'plateau': {
        'triangle: cuts, as the recipe has': {'schedule': 'plateau'},
        'Nesterov': {'nesterov': False},
        'label smoothing': {'label_smoothing': 0.0},
        'pad and crop': {'pad': 0.0},
        'flip': {'flip': 0.0},
        'Cutout': {'hole': 0.0},
        'half the L2': {'wd': PLATEAU.wd / 2},
        'SGD alone: Muon': {'muon': SPEEDRUN.muon * SPEEDRUN.lr / PLATEAU.lr},
        'a stride in the last stage': {'last_stride': 1},
    },
    'speedrun': {
        'Muon': {'muon': 0.0},
        'test-time views': {'test_views': False},
        'lookahead': {'lookahead': False},
        'faster biases': {'bias_lr': 1.0},
        'alternating flip': {'alternating_flip': False},
        'any flip': {'flip': 0.0, 'alternating_flip': False},
        'pad and crop': {'pad': 0.0},
        'label smoothing': {'label_smoothing': 0.0},
        'Nesterov': {'nesterov': False},
        'triangle: cuts by a tenth held out': {'schedule': 'plateau', 'valid': 0.1, 'factor': 5.0},
    },
    'hour': {
        'a wide network, in as many epochs': {'arch': 'speednet'},
    },
}


def train(without: str, seed: int, name: str, data: str, files: list[Path], fraction: float, epochs: int) -> dict:
    """Train by the recipe `name` without one ingredient; return the accuracy and the training time in seconds.

    The accuracy is measured on the `files` that training hasn't seen; raises UserError if there are none.
    """
    changes = WITHOUT[name][without] if without != 'nothing' else {}
    with TemporaryDirectory() as out:
        set_seed(seed)
        dls = get_dls(data, replace(BASES[name], **changes), fraction=fraction, seed=seed)
        seen = {*dls.train.items, *dls.valid.items}
        others = [file for file in files if file not in seen]
        if not others:
            raise UserError(f'--fraction {fraction} leaves no unseen images to test on: choose a smaller one')
        judges = dls.test_dl(others[:: -(-len(others) // JUDGES)], with_labels=True, num_workers=0)
        learn = get_learner(dls, path=out)
        history = fit(learn, epochs)
        _, accuracy = learn.validate(dl=judges)
    return {'accuracy': accuracy, 'images': len(judges.dataset), 'seconds': history.seconds.sum()}


@call_parse
def main(
    recipe: str = 'speedrun',  # or plateau, hour
    data: str = 'cifar10',  # as --data of train_fastai.py
    fraction: float = 0.2,  # of the training images, less than 1
    epochs: int = 5,
    seeds: int = 2,  # number of runs per variant, with seeds 0, 1, ...
    out: str = 'runs/ablation',  # folder of the table
):
    """Train a recipe without one ingredient at a time."""
    file = Path(expanduser(out)) / f'{recipe}-fraction{fraction}-epochs{epochs}.csv'
    cases = [{'without': name, 'seed': seed} for seed in range(seeds) for name in ('nothing', *WITHOUT[recipe])]
    with ends_in_one_line('ablation.py'):
        files = find_images(data).train
        one = partial(train, name=recipe, data=data, files=files, fraction=fraction, epochs=epochs)
        by_name = measured(file, cases, one).groupby('without', sort=False)
    means, deviations = by_name.mean(), by_name.accuracy.std()
    print('| without | accuracy | less than with all | training |\n|---|--:|--:|--:|')
    for name, row in means.iterrows():
        less = f'{100 * (means.accuracy.iloc[0] - row.accuracy):+.2f} points' if name != 'nothing' else ''
        accuracy = f'{row.accuracy:.2%}' + (f' ± {deviations[name]:.2%}' if seeds > 1 else '')
        print(f'| {name} | {accuracy} | {less} | {row.seconds:.0f} s |')
