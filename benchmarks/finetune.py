"""Compare fine-tuning with a linear probe and with training from scratch, or cross-validate it on a folder.

    python benchmarks/finetune.py --data cifar10 --size 96 --weights FILE
    python benchmarks/finetune.py --data PHOTOS --folds 5 --weights FILE

Without `folds`, each seed draws its own training and test images, stratified by class, and trains the recipe
`finetune` with and without pretrained weights. The probe is a logistic regression on the pretrained network's features,
its regularisation chosen by cross-validation on the training images. With `folds`, each image is tested once, by a
network that wasn't trained on it.
"""

import os
import sys
from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from fastai.learner import Learner
from fastai.torch_core import set_seed
from fastcore.script import call_parse
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, train_test_split

from config.overrides import override
from config.recipes import FINETUNE, Recipe
from data.sources import find_images
from models.backbones import head_of
from models.build import check_network
from runtime.errors import ends_in_one_line
from train_fastai import find_lr, fit, get_dls, get_learner

C = np.logspace(-4, 0, 9)  # inverse strengths of the probe's regularisation


def link(folder: Path, **splits: list[Path]) -> str:
    """Link files into `folder`/<split>/<class>/, and return `folder`."""
    for split, files in splits.items():
        for i, file in enumerate(files):
            target = folder / split / file.parent.name / f'{i:05}{file.suffix}'
            target.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(file, target)
    return str(folder)


def learner(data: str, recipe: Recipe, size: int | None, seed: int) -> Learner:
    """The Learner that `train_fastai.py` would train."""
    set_seed(seed)
    return get_learner(get_dls(data, recipe, size=size, seed=seed), path=Path(data).parent / 'run')


def fine_tuned(data: str, recipe: Recipe, size: int | None, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Sweep and train; return the predicted and the actual classes of the test images, and the seconds."""
    start = perf_counter()
    learn = learner(data, recipe, size, seed)
    fit(learn, lr=find_lr(learn).lr)
    probabilities, actual = learn.get_preds(dl=learn.dls[2])
    return probabilities.argmax(1).numpy(), actual.numpy(), perf_counter() - start


def probed(data: str, recipe: Recipe, size: int | None, seed: int) -> np.ndarray:
    """The predicted classes of the test images by a linear probe, trained on all training images."""
    learn = learner(data, replace(recipe, valid=0.0), size, seed)
    found = []
    (head,) = (m for m in learn.model.modules() if {*m.parameters(recurse=False)} == {*head_of(learn.model)})
    head.register_forward_pre_hook(lambda module, args: found.append(args[0].detach()))

    def features(dl) -> tuple[np.ndarray, np.ndarray]:
        found.clear()
        _, labels = learn.get_preds(dl=dl)
        return torch.cat(found).numpy(), labels.numpy()

    probe = LogisticRegressionCV(Cs=C, max_iter=2000, use_legacy_attributes=False, l1_ratios=(0,), scoring='accuracy')
    probe.fit(*features(learn.dls.test_dl(learn.dls.train.items, with_labels=True)))
    return probe.predict(features(learn.dls[2])[0])


def compare(files: list[Path], recipe: Recipe, size: int | None, n: tuple[int, int], seeds: int) -> None:
    """Print a row per seed, and the mean gain over the probe with its 95% interval, paired by test image."""
    gains = []
    print('| seed | fine-tuned | linear probe | from scratch | s |\n|--:|--:|--:|--:|--:|', flush=True)
    for seed in range(seeds):
        train, rest = train_test_split(files, train_size=n[0], random_state=seed, stratify=[f.parent for f in files])
        test, _ = train_test_split(rest, train_size=n[1], random_state=seed, stratify=[f.parent for f in rest])
        with TemporaryDirectory() as out:
            data = link(Path(out, 'images'), train=train, test=test)
            predicted, actual, seconds = fine_tuned(data, recipe, size, seed)
            probe = probed(data, recipe, size, seed)
            scratch, _, _ = fine_tuned(data, override(recipe, pretrained=False), size, seed)
        ours, theirs, scratch = (o == actual for o in (predicted, probe, scratch))
        gains.append(ours.astype(int) - theirs)
        print(
            f'| {seed} | {ours.mean():.1%} | {theirs.mean():.1%} | {scratch.mean():.1%} | {seconds:.0f} |', flush=True
        )
    gains = np.concatenate(gains)
    margin = 1.96 * gains.std() / len(gains) ** 0.5
    print(f'\nfine-tuned minus probe: {100 * gains.mean():.1f} ± {100 * margin:.1f} points')


def cross_validate(files: list[Path], recipe: Recipe, size: int | None, folds: int, seeds: int) -> None:
    """Print the scores over all images, each predicted by a network that wasn't trained on it."""
    labels = [file.parent.name for file in files]
    print('| seed | accuracy | balanced accuracy | macro-F1 | s a fold |\n|--:|--:|--:|--:|--:|', flush=True)
    for seed in range(seeds):
        parts = []
        for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(files, labels):
            with TemporaryDirectory() as out:
                splits = {'train': [files[i] for i in train], 'test': [files[i] for i in test]}
                parts.append(fine_tuned(link(Path(out, 'images'), **splits), recipe, size, seed))
        predicted, actual, seconds = zip(*parts, strict=True)
        pair = np.concatenate(actual), np.concatenate(predicted)
        scores = np.mean(pair[0] == pair[1]), balanced_accuracy_score(*pair), f1_score(*pair, average='macro')
        print(f'| {seed} |', ' | '.join(f'{score:.1%}' for score in scores), f'| {np.mean(seconds):.0f} |', flush=True)


@call_parse
def main(
    data: str = 'cifar10',  # as --data of train_fastai.py
    weights: str = '',  # as --weights
    arch: str = FINETUNE.arch,  # as --arch
    size: int = 0,  # as --size; 0 is its default
    train: int = 500,  # training images
    test: int = 1000,  # test images
    folds: int = 0,  # for k-fold cross-validation over all images
    seeds: int = 3,  # number of runs, with seeds 0, 1, ...
):
    """Fine-tune, and print a Markdown table."""
    with ends_in_one_line('finetune.py'):
        recipe = check_network(override(FINETUNE, arch=arch, **({'weights': expanduser(weights)} if weights else {})))
        images = find_images(data)
        files = [file.resolve() for file in (*images.train, *images.test)]
        if folds:
            cross_validate(files, recipe, size or None, folds, seeds)
        else:
            compare(files, recipe, size or None, (train, test), seeds)
