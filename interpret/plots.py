"""The pictures of a training run: each function takes data and returns a matplotlib `Figure`."""

import random
import textwrap
from itertools import cycle, islice

import numpy as np
import pandas as pd
from fastai.data.core import DataLoaders
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from callbacks.history import kept_epoch
from data.batch_at import batch_at
from interpret.confusion import plot_confusion as plot_confusion  # one of the pictures of a run, too
from interpret.figures import STYLE, new_figure
from interpret.fonts import drawable

# Okabe and Ito's colours: told apart by colour-blind readers, and in grey by their lightness and line style.
TRAIN, VALID, OTHER = '#E69F00', '#0072B2', '#666666'


def _splits(history: pd.DataFrame) -> tuple[str, ...]:
    """Training, and validation where images were held out."""
    return ('train',) if history.valid_loss.isna().all() else ('train', 'valid')


def _plot_metric(ax: Axes, history: pd.DataFrame, metric: str, splits: tuple[str, ...]) -> None:
    """Draw `metric` of `splits` over the epochs, each cut of the learning rate and the epoch whose weights are kept."""
    history = history.assign(epoch=history.epoch + 1)  # as people count
    best = kept_epoch(history)
    for split in splits:
        name, colour, line = f'{split}_{metric}', *((TRAIN, '--') if split == 'train' else (VALID, '-'))
        ax.plot(history.epoch, history[name], line, color=colour, marker='o', label=f'{split} {metric}')
    which = 'best' if 'valid' in _splits(history) else 'last'
    label = f'{which} epoch {best.epoch:.0f}: ' + (f'{best[name]:.2%}' if metric == 'accuracy' else f'{best[name]:.3f}')
    # hollow, so that the epoch's own point is seen in it
    star = {'markerfacecolor': 'none', 'markeredgecolor': 'black', 'markersize': 13}
    ax.plot(best.epoch, best[name], '*', **star, label=label)

    # a schedule changes the rate all the time: no cuts
    cuts = history[history.lr.diff() < 0] if (history.lr.diff() == 0).any() else history[:0]
    for epoch in cuts.epoch:
        ax.axvline(epoch - 0.5, color=OTHER, linestyle=':', linewidth=1)
    top = ax.secondary_xaxis('top')
    top.set_xticks(cuts.epoch - 0.5, [f'lr {lr:.3g}' for lr in cuts.lr], rotation=40, ha='left', rotation_mode='anchor')
    top.tick_params(length=0, labelcolor=OTHER, pad=1)
    top.spines['top'].set_visible(False)

    ax.set(xlabel='epoch', ylabel=metric, xlim=(history.epoch.min() - 0.5, history.epoch.max() + 0.5))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if metric == 'accuracy':
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc='lower right' if metric == 'accuracy' else 'upper right')  # where a curve that learns leaves room


@rc_context(STYLE)
def plot_history(history: pd.DataFrame) -> Figure:
    """The accuracy on the training and the validation set over the epochs.

    `history` has one row an epoch (counted from 0, shown from 1) and the columns epoch, train_loss, train_accuracy,
    valid_loss, valid_accuracy (fractions) and lr. Dotted lines are the cuts of the learning rate, the star is the best
    epoch.
    """
    fig, axs = new_figure(figsize=(8, 4.5))
    fig.suptitle('Accuracy')
    _plot_metric(axs[0, 0], history, 'accuracy', _splits(history))
    return fig


@rc_context(STYLE)
def plot_history_panels(history: pd.DataFrame) -> Figure:
    """Loss and accuracy (rows) on the training and the validation set (columns); `history` as in `plot_history`."""
    splits = _splits(history)
    fig, axs = new_figure(2, len(splits), figsize=(5.5 * len(splits), 7), sharey='row')
    fig.suptitle('Loss and accuracy')
    for row, metric in zip(axs, ('loss', 'accuracy'), strict=True):
        for ax, split in zip(row, splits, strict=True):
            _plot_metric(ax, history, metric, (split,))
    return fig


@rc_context(STYLE)
def plot_sweep(sweep) -> Figure:
    """The learning-rate sweep: loss over learning rate, the chosen one, and what the other rules suggest.

    `sweep` has `lr`, `rule` and `reason` (the choice), `lrs` and `losses` (the curve) and `suggestions` (rule -> lr).
    """
    lrs, losses = np.array(sweep.lrs), np.array(sweep.losses)
    fig, axs = new_figure(figsize=(8, 4.5))
    ax = axs[0, 0]
    ax.plot(lrs, losses, color=VALID)
    ax.axvline(sweep.lr, color=TRAIN, linestyle='--', linewidth=1)
    # Above the highest loss on the way down the curve only diverges: half that descent again shows it, unsquashed.
    finite = losses[np.isfinite(losses)]
    if len(finite):
        low = finite.argmin()
        descent = max(finite[: low + 1].max() - finite[low], 0.1 * abs(finite[low]))
        ax.set_ylim(finite[low] - 0.1 * descent, finite[low] + 1.5 * descent)
    ax.set(xscale='log', xlabel='learning rate', ylabel='loss (smoothed)')
    _mark_rates(ax, sweep, lrs, losses)
    ax.set_title(textwrap.fill(sweep.reason, 100), loc='left', color=OTHER)
    fig.suptitle(f'Learning-rate sweep: {sweep.lr:.2e}')
    ax.legend(loc='upper left')
    return fig


def _mark_rates(ax: Axes, sweep, lrs: np.ndarray, losses: np.ndarray) -> None:
    """Mark the chosen rate and each other one that a rule suggests; the same rate of several rules is one mark."""
    rules = {f'{sweep.lr:.2e}': [f'chosen, {sweep.rule}']}
    for rule, lr in sweep.suggestions.items():
        if rule != sweep.rule:
            rules.setdefault(f'{lr:.2e}', []).append(rule)
    low, high = ax.get_ylim()
    for (lr, names), marker in zip(rules.items(), '*osD^v', strict=False):
        loss = np.interp(float(lr), lrs, losses)
        label = f'{", ".join(names)}: {lr}' + ('' if low <= loss <= high else ' (outside)')
        colour, size = (TRAIN, 14) if marker == '*' else ('#B0B0B0', 7)
        ax.plot(float(lr), loss, marker, color=colour, markeredgecolor='black', markersize=size, label=label)


@rc_context(STYLE)
def plot_augmented(dls: DataLoaders, cls: str, n: int = 16) -> Figure:
    """`n` training images of the class `cls` as the model sees them, augmented, in true colours.

    Each is another image of the class; when there are fewer than `n` they come again, drawn anew.
    """
    dl, label = dls.train, list(dls.vocab).index(cls)
    labels = dl.dataset.tls[-1]
    # files are often sorted by class, and reading a label costs 0.2 ms: a random order finds `n` soon
    order = random.Random(0).sample(range(len(labels)), len(labels))
    members = list(islice((i for i in order if labels[i] == label), n))
    batch = batch_at(dl, list(islice(cycle(members), n)))
    samples = dl._pre_show_batch(batch, max_n=n)[2]
    rows = int(np.sqrt(n))
    cols = -(-n // rows)
    fig, axs = new_figure(rows, cols, figsize=(1.4 * cols, 1.4 * rows + 0.4))
    fig.suptitle(*drawable([cls]))
    for ax in axs.flat:
        ax.axis('off')
    for ax, (image, _) in zip(axs.flat, samples, strict=False):
        image.show(ctx=ax)
    return fig
