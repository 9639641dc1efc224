"""Compare changes to the recipe `plateau`, and learning rates of `reference`, on a fraction of the training images.

    python benchmarks/candidates.py --data PATH --epochs 20

Trains a ResNet-18 of a quarter of the usual width, so that a run takes minutes on a CPU, and measures its accuracy on
10,000 training images that the run hasn't seen; the test set is not used. Started again, it keeps finished runs. Writes
one row per run to a table in `out` and prints a Markdown table.
"""

import sys
from dataclasses import replace
from functools import partial
from os.path import expanduser
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from fastai.learner import Learner
from fastai.torch_core import set_seed
from fastcore.script import call_parse
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.rows import measured
from callbacks.test_time_views import MeanOverViews
from config.recipes import PLATEAU, REFERENCE
from data.sources import find_images
from runtime.errors import ends_in_one_line
from train_fastai import fit, get_dls, get_learner

JUDGES, VIEWED = 10_000, 2_500  # unseen images: with one view, and of those with six
WIDTH = 16  # channels of the first stage; a ResNet-18 has 64

BEFORE = replace(PLATEAU, hole=0.5, patience=4, average=0.0, test_views=False)
CASES = {
    'before': BEFORE,
    'before with the triangle': replace(BEFORE, schedule='triangle'),
    'average of 1 epoch': replace(BEFORE, average=1.0),
    'hole of a quarter': replace(BEFORE, hole=0.25),
    'now': replace(PLATEAU, test_views=False),
    'now with the triangle': replace(PLATEAU, test_views=False, schedule='triangle'),
    'reference at 0.0204': REFERENCE,
    'reference at 0.0026': replace(REFERENCE, lr=0.0026),
}


class NarrowResNet18(ResNet):
    """A ResNet-18 for small images with stages of WIDTH, 2 WIDTH, 4 WIDTH and 8 WIDTH channels."""

    def __init__(self, n_out: int):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=n_out)
        self.inplanes = WIDTH
        self.conv1 = nn.Conv2d(3, WIDTH, 3, padding=1, bias=False)
        self.bn1, self.maxpool = nn.BatchNorm2d(WIDTH), nn.Identity()
        for i in range(4):
            stage = self._make_layer(BasicBlock, WIDTH * 2**i, 2, stride=min(i + 1, 2))
            setattr(self, f'layer{i + 1}', stage)
        self.fc = nn.Linear(8 * WIDTH, n_out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')


def train(case: str, seed: int, data: str, files: list[Path], fraction: float, epochs: int) -> dict:
    """Train one case; return its accuracies on unseen images, the epochs before each cut, and the seconds."""
    recipe = CASES[case]
    with TemporaryDirectory() as out:
        set_seed(seed)
        dls = get_dls(data, recipe, fraction=fraction, seed=seed)
        learn = get_learner(dls, path=out)
        set_seed(seed)
        learn.model = NarrowResNet18(len(dls.vocab))
        learn.create_opt()
        history = fit(learn, epochs)
        seen = {*dls.train.items, *dls.valid.items}
        others = [file for file in files if file not in seen]
        one_view, few = (_accuracy(learn, others, n) for n in (JUDGES, VIEWED))
        learn.add_cb(MeanOverViews(flip=True, shift=True))
        six_views = _accuracy(learn, others, VIEWED)
    cuts = history.epoch[history.lr.diff() < 0].tolist() if recipe.schedule == 'plateau' else []
    return {
        'accuracy': one_view,
        'gain of six views': six_views - few,
        'cuts': ' '.join(map(str, cuts)),
        'seconds': history.seconds.sum(),
    }


def _accuracy(learn: Learner, files: list[Path], n: int) -> float:
    some = files[:: max(1, len(files) // n)]
    return learn.validate(dl=learn.dls.test_dl(some, with_labels=True, num_workers=0))[1]


@call_parse
def main(
    cases: str = ','.join(CASES),  # separated by commas
    data: str = 'cifar10',  # as --data of train_fastai.py
    fraction: float = 0.2,  # of the training images, less than 1
    epochs: int = 20,
    seeds: int = 1,  # number of runs per case, with seeds 0, 1, ...
    out: str = 'runs/candidates',  # folder of the table
):
    """Train each case on a fraction of the images."""
    file = Path(expanduser(out)) / f'fraction{fraction}-epochs{epochs}.csv'
    rows = [{'case': case, 'seed': seed} for seed in range(seeds) for case in cases.split(',')]
    with ends_in_one_line('candidates.py'):
        one = partial(train, data=data, files=find_images(data).train, fraction=fraction, epochs=epochs)
        table = measured(file, rows, one)
    print('| case | seed | accuracy | six views | cuts after epochs | training |\n|---|--:|--:|--:|---|--:|')
    for row in table.itertuples(index=False):
        case, seed, accuracy, gain, cuts, seconds = row
        print(f'| {case} | {seed} | {accuracy:.2%} | {100 * gain:+.2f} | {cuts} | {seconds:.0f} s |')
