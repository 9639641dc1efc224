"""Which of the suggestions of a learning rate sweep leads SGD furthest? One sweep, then one training run for each.

All runs start from the same weights and see the same batches; the held-out part of the training images judges them,
the test set plays no part. Prints a Markdown table: `python benchmarks/lr_rules.py --data PATH`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastai.torch_core import set_seed
from fastcore.script import call_parse

from callbacks.history import kept_epoch
from sweep import find_lr
from train_fastai import PLATEAU, fit, get_dls, get_learner


@call_parse
def main(
    data: str = 'cifar10',  # what --data of train_fastai.py takes
    fraction: float = 0.08,  # use this much of the training images
    valid: float = 0.25,  # and hold out this much of those
    epochs: int = 8,  # of each run
    seed: int = 42,  # of the split, the weights and the draws
):
    """Compare the suggestions of a sweep by what they lead to."""

    def learner(out):
        set_seed(seed)
        return get_learner(get_dls(data, PLATEAU, PLATEAU.bs, valid, fraction, seed), PLATEAU, out)

    rows = []
    with TemporaryDirectory() as out:
        for rule, lr in find_lr(learner(out)).suggestions.items():
            print(f'{rule}: lr {lr:.4g}', flush=True)
            history = fit(learner(out), epochs, lr)
            best = kept_epoch(history)
            rows.append(
                f'| {rule} | {lr:.4g} | {best.train_loss:.3f} | {best.valid_loss:.3f} | {best.valid_accuracy:.1%} |'
            )
    print(
        '| rule | suggested lr | train loss | valid loss | valid accuracy |', '|---|---|---|---|---|', *rows, sep='\n'
    )
