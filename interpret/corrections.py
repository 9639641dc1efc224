"""What a person's verdicts change: the accuracy and the confusion matrix of the corrected test labels."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sklearn.metrics as skm
import torch
from scipy.stats import binomtest
from torch import Tensor

from interpret.confusion import plot_confusion
from interpret.interpretation import GradCAMInterpretation
from runtime.checked_file import read_table
from runtime.csv_file import without_apostrophe
from runtime.errors import UserError
from runtime.figures import save_figure

COLUMNS = ['file', 'actual', 'verdict', 'right_class']
VERDICTS = 'model wrong', 'label wrong', 'ambiguous', 'none of the classes', ''


class Corrections(NamedTuple):
    """The test labels after a person's verdicts: corrected `targs` (N), and which images are `counted` (N)."""

    targs: Tensor
    counted: Tensor


def read_verdicts(file: Path) -> pd.DataFrame:
    """Read the columns file, actual, verdict and right_class of a CSV that the review page exported; else UserError."""

    def parse(table):
        table = table[COLUMNS].map(without_apostrophe)
        if unknown := set(table.verdict) - set(VERDICTS):
            raise ValueError(f'no verdict: {min(unknown)}')
        if table.file.duplicated().any():
            raise ValueError(f'two rows for {table.file[table.file.duplicated()].iloc[0]}')
        return table

    # the names of classes may be numbers, and a spreadsheet may separate columns by semicolons
    options = {'dtype': str, 'keep_default_na': False, 'sep': None, 'engine': 'python'}
    return read_table(file, 'table of verdicts, with the columns ' + ', '.join(COLUMNS), parse, **options)


def correct_labels(interp: GradCAMInterpretation, verdicts: pd.DataFrame) -> Corrections:
    """Apply the `verdicts` of `read_verdicts` to the labels of `interp`.

    "label wrong" replaces a label by the right class. Images of none of the classes, and those with a wrong label but
    no right class, aren't counted. Raises UserError if a row's file, label or right class isn't of this run.
    """
    index = {str(name): i for i, name in enumerate(interp.vocab)}
    images = interp.suspects(k=None)
    positions, labels = dict(zip(images.file, images.index, strict=True)), images.set_index('file').actual
    targs, counted = interp.targs.clone(), torch.ones(len(interp.targs), dtype=torch.bool)
    for row in verdicts.itertuples():
        if row.file not in positions or str(labels[row.file]) != row.actual:
            raise UserError(f'the verdicts are of other images: this run has no {row.file} of the class {row.actual}')
        if row.verdict == 'label wrong' and row.right_class:
            if row.right_class not in index:
                raise UserError(f'the verdict on {row.file} names no class of this run: {row.right_class}')
            targs[positions[row.file]] = index[row.right_class]
        elif row.verdict in ('label wrong', 'none of the classes'):
            counted[positions[row.file]] = False
    if not counted.any():
        raise UserError('the verdicts leave out all test images: no accuracy is left to measure')
    return Corrections(targs, counted)


def corrected_accuracy(interp: GradCAMInterpretation, corrections: Corrections) -> dict[str, Any]:
    """The accuracy with corrected labels, as a fraction, and the 95% intervals (Wilson) of both accuracies."""
    counted, given = corrections.counted, interp.decoded == interp.targs
    right = (interp.decoded == corrections.targs)[counted]
    return {
        'corrected_labels': int((corrections.targs != interp.targs).sum()),
        'left_out': int((~counted).sum()),
        'images': len(right),
        'test_accuracy': right.float().mean().item(),
        'interval': _wilson(right),
        'interval_with_given_labels': _wilson(given),
    }


def corrected_confusion(interp: GradCAMInterpretation, corrections: Corrections) -> np.ndarray:
    """The confusion matrix with corrected labels, C x C as in `GradCAMInterpretation.confusion_matrix`."""
    targs, decoded = corrections.targs[corrections.counted], interp.decoded[corrections.counted]
    return skm.confusion_matrix(targs, decoded, labels=range(len(interp.vocab)))


def write_corrected(interp: GradCAMInterpretation, verdicts: pd.DataFrame | None, run: Path) -> dict[str, Any] | None:
    """Plot the confusion matrix with the labels that `verdicts` correct; return `corrected_accuracy`, None without."""
    picture = run / 'plots/confusion_matrix_corrected.png'
    if verdicts is None:
        picture.unlink(missing_ok=True)  # of an earlier review
        return None
    corrections = correct_labels(interp, verdicts)
    save_figure(plot_confusion(corrected_confusion(interp, corrections), interp.vocab), picture)
    return corrected_accuracy(interp, corrections)


def about_corrected(corrected: dict[str, Any]) -> str:
    """Compare both accuracies in two sentences; `corrected` is the result of `corrected_accuracy`."""
    (low, high), (given_low, given_high) = corrected['interval'], corrected['interval_with_given_labels']
    return (
        f'with corrected labels (corrected: {corrected["corrected_labels"]:,}, images left out: '
        f'{corrected["left_out"]:,}) the test accuracy is {corrected["test_accuracy"]:.2%}, 95% interval {low:.2%} to '
        f'{high:.2%}; with the given labels {given_low:.2%} to {given_high:.2%}. A wrong label that agrees with the '
        'model is no mistake, so nobody corrected it: this accuracy is optimistic.'
    )


def _wilson(right: Tensor) -> list[float]:
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method='wilson')
    return [float(interval.low), float(interval.high)]
