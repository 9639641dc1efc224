"""Plots of a training: the learning rate sweep and the history."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from callbacks.history import kept_epoch
from runtime.figures import OTHER, STYLE, TRAIN, VALID, new_figure


def _splits(history: pd.DataFrame) -> tuple[str, ...]:
    return ('train',) if history.valid_loss.isna().all() else ('train', 'valid')


def _plot_metric(ax: Axes, history: pd.DataFrame, metric: str, splits: tuple[str, ...]) -> None:
    """Plot `metric` of `splits` over the epochs, with the cuts of the learning rate and the kept weights' epoch."""
    history = history.assign(epoch=history.epoch + 1)  # plots count from 1
    best = kept_epoch(history)
    for split in splits:
        name, colour, line = f'{split}_{metric}', *((TRAIN, '--') if split == 'train' else (VALID, '-'))
        ax.plot(history.epoch, history[name], line, color=colour, marker='o', label=f'{split} {metric}')
    which = 'best' if 'valid' in _splits(history) else 'last'
    label = f'{which} epoch {best.epoch:.0f}: ' + (f'{best[name]:.2%}' if metric == 'accuracy' else f'{best[name]:.3f}')
    # hollow, so that the epoch's own point stays visible
    star = {'markerfacecolor': 'none', 'markeredgecolor': 'black', 'markersize': 13}
    ax.plot(best.epoch, best[name], '*', **star, label=label)

    # a schedule changes the rate in each epoch: those aren't cuts
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
    ax.legend(loc='lower right' if metric == 'accuracy' else 'upper right')  # usually the free corner


@rc_context(STYLE)
def plot_history(history: pd.DataFrame) -> Figure:
    """Plot training and validation accuracy over the epochs.

    `history` has one row an epoch (counted from 0, shown from 1) and the columns epoch, train_loss, train_accuracy,
    valid_loss, valid_accuracy (fractions) and lr. Dotted lines mark cuts of the learning rate, the star marks the best
    epoch.
    """
    fig, axs = new_figure(figsize=(8, 4.5))
    fig.suptitle('Accuracy')
    _plot_metric(axs[0, 0], history, 'accuracy', _splits(history))
    return fig


@rc_context(STYLE)
def plot_history_panels(history: pd.DataFrame) -> Figure:
    """Plot loss and accuracy (rows) for training and validation (columns); `history` as in `plot_history`."""
    splits = _splits(history)
    fig, axs = new_figure(2, len(splits), figsize=(5.5 * len(splits), 7), sharey='row')
    fig.suptitle('Loss and accuracy')
    for row, metric in zip(axs, ('loss', 'accuracy'), strict=True):
        for ax, split in zip(row, splits, strict=True):
            _plot_metric(ax, history, metric, (split,))
    return fig


@rc_context(STYLE)
def plot_sweep(sweep) -> Figure:
    """Plot an LRSweep: the loss over the learning rate, with the chosen rate and the other rules' suggestions."""
    lrs, losses = np.array(sweep.lrs), np.array(sweep.losses)
    fig, axs = new_figure(figsize=(8, 4.5))
    ax = axs[0, 0]
    ax.plot(lrs, losses, color=VALID)
    ax.axvline(sweep.lr, color=TRAIN, linestyle='--', linewidth=1)
    # A diverging loss would squash the curve: show half of the descent's height above its start, and clip the rest.
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
    """Mark the chosen rate and the rules' suggestions; rules that suggest the same rate share a mark."""
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
