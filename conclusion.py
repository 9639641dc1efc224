"""The end of a run: its review, its summary, the page and the model card."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from fastai.learner import Learner
from pandas import isna

from callbacks.history import kept_epoch
from data.balance import imbalance
from data.duplicates import about_leaked, leaked, write_duplicates
from errors import printable
from fingerprint import fingerprint_contents
from interpret.card import write_card
from interpret.interpretation import GradCAMInterpretation
from interpret.report import write_report
from interpret.review import review
from options import read_config
from reopen import load_run, read_history, read_summary
from run_folder import locked, write_json

CIFAR10 = 'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'
# `fingerprint_contents` of the test images of JPEG CIFAR-10, whose PNG files at fast.ai have no published digest.
JPEG_CIFAR10 = '60b2c77e732cde089eaff5a1b8a3827c9ac7e376cd38fc069e8789e96b73b236'
# What the course project reports: ResNet-18 on the original CIFAR-10, the best of 50 epochs by the test set itself.
COURSE_PROJECT = {'max_train_accuracy': 0.9176, 'test_accuracy': 0.9033}


def conclude(learn: Learner, history: pd.DataFrame, lr: float, test_selected_on: bool, seconds: float) -> None:
    """Review the kept weights on the test set, write `summary.json`, print its accuracies, write page and model card.

    `lr` is the highest learning rate, and `seconds` is what sweep and training took. The course project's accuracies
    stand beside where the test images are CIFAR-10's. Where training has some of them too, so does the test accuracy
    without these.
    """
    course = COURSE_PROJECT if _tests_on_cifar10(learn) else None
    interp, best = review(learn, learn.path, seconds), kept_epoch(history)
    right, new = interp.decoded == interp.targs, _not_leaked(interp)
    n_leaked, of_new = (~new).sum().item(), right[new].float().mean().item() if new.any() else None
    summary = {
        'parameters': sum(p.numel() for p in learn.model.parameters()),
        'lr': lr,
        'best_epoch': int(best.epoch),
        'best_valid_accuracy': None if isna(best.valid_accuracy) else best.valid_accuracy,  # nothing was held out
        'max_train_accuracy': history.train_accuracy.max(),
        'test_accuracy': right.float().mean().item(),
        'leaked_test_images': n_leaked,
        'test_accuracy_without_leaked': of_new,
        'leak': about_leaked(n_leaked, len(new), of_new),
        'test_loss': interp.losses.mean().item(),
        'test_selected_on': test_selected_on,
        'training_images': learn.dls.class_counts,
        'imbalance': imbalance(learn.dls.class_counts),
        'seconds': round(seconds, 1),
        'course_project': course,
    }
    write_json(learn.path / 'summary.json', summary)
    write_card(interp, summary)
    write_report(interp, learn.path)
    print('{:20} {:>9}'.format('', 'this run') + ' course project (CIFAR-10)' * bool(course))
    for key in COURSE_PROJECT:
        print(f'{key.replace("_", " "):20} {summary[key]:>9.2%}' + (f' {course[key]:>25.2%}' if course else ''))
    if summary['leak']:
        print(summary['leak'])
    if course:
        print("The course project's epoch was chosen by its test set, and its dropout stayed on in evaluation.")
    if test_selected_on:
        print('This test accuracy was selected on: the test set chose the epoch.')
    print(f'weights, tables and pictures: {printable(learn.path)}')
    print(f'the mistakes, to look through: {printable(learn.path / "report.html")}')


def _not_leaked(interp: GradCAMInterpretation) -> torch.Tensor:
    """Which test images only the test set has, as booleans."""
    dls = interp.learn.dls
    known = leaked(dls.duplicates)
    return torch.tensor([file.relative_to(dls.path).as_posix() not in known for file in interp.dl.dataset.items])


def _tests_on_cifar10(learn: Learner) -> bool:
    """Whether the test images are CIFAR-10's: downloaded by `--data cifar10`, or JPEG CIFAR-10's, wherever they lie."""
    if tuple(learn.dls.vocab) != CIFAR10:
        return False
    original = read_config(learn.path / 'config.json')['options']['data'] == 'cifar10'
    return original or fingerprint_contents(learn.dls[2].dataset.items) == JPEG_CIFAR10


def review_again(run: str | Path, **changes: Any) -> None:
    """Make the review of a finished run anew, without training; `changes` are as of `load_run`."""
    learn = load_run(run, **changes)
    summary, history = read_summary(learn.path), read_history(learn.path)
    with locked(learn.path):
        write_duplicates(learn.path, learn.dls.duplicates)
        conclude(learn, history, **summary)
