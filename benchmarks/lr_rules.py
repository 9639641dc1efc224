"""Compare the learning rates that a sweep suggests: one sweep, then one training run per suggestion.

All runs start from the same weights and see the same batches. They are compared on held-out training images; the test
set is not used. Prints a Markdown table: `python benchmarks/lr_rules.py --data PATH`.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastai.torch_core import set_seed
from fastcore.script import call_parse

from callbacks.history import kept_epoch
from train_fastai import PLATEAU, fit, get_dls, get_learner
from training.lr_finder import find_lr


@call_parse
def main(
    data: str = 'cifar10',  # as --data of train_fastai.py
    fraction: float = 0.08,  # fraction of the training images to use
    valid: float = 0.25,  # fraction of those to hold out
    epochs: int = 8,  # per run
    seed: int = 42,  # for the split, the weights and the random draws
):
    """Train with each learning rate that a sweep suggests, and compare the results."""

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
