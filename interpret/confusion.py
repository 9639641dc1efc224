"""The picture of a confusion matrix."""

import unicodedata

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from runtime.figures import STYLE, new_figure
from runtime.fonts import drawable

LONGEST = 36  # letters of a class name; two PlantVillage names have 50, and shortened they still differ


@rc_context(STYLE)
def plot_confusion(cm: np.ndarray, vocab: list[str]) -> Figure:
    """Plot the confusion matrix `cm` (C x C counts; rows are actual classes).

    A cell's colour is its share of the actual class, on a power scale that keeps rare confusions visible. Long names
    are shortened in the middle. If the cells are too small, the counts and some names are left out.
    """
    names = drawable([str(name) for name in vocab])
    if names != [str(name) for name in vocab]:
        print('pictures spell out some letters of the class names: no installed font has them')
    names = shortened(names)
    side = np.clip(0.5 * len(names), 3, 16)  # of the matrix, in inches
    points = 72 * side / len(names)
    share, norm = cm / np.maximum(cm.sum(1, keepdims=True), 1), PowerNorm(0.4, 0, 1)
    fig, axs = new_figure(layout='none')
    ax = axs[0, 0]
    image = ax.imshow(share, norm=norm, cmap='Blues')
    size = min(9, 1.4 * points / max(3, len(str(cm.max()))))
    for i, j in np.argwhere(cm) if size > 3 else ():
        colour = 'white' if norm(share[i, j]) > 0.6 else 'black'
        ax.text(j, i, cm[i, j], ha='center', va='center', fontsize=size, color=colour)
    step = int(np.ceil(6 / points))
    ticks = {'fontsize': min(9, step * points / 1.3)}
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90, **ticks)
    ax.set_yticks(range(0, len(names), step), names[::step], **ticks)
    ax.set(xlabel='predicted', ylabel='actual')
    ax.grid(False)
    title = f'Confusion matrix: {np.trace(cm)} of {cm.sum()} right ({np.trace(cm) / cm.sum():.2%})'
    title = ax.set_title(title, loc='left', fontsize=11)
    _fit(fig, side, _inches(title))
    bar = ax.inset_axes([1 + 0.2 / side, 0.1, 0.2 / side, 0.8])
    fig.colorbar(image, bar, label='share of the actual class', format=PercentFormatter(1))
    return fig


def _fit(fig: Figure, side: float, title: float) -> None:
    """Resize the figure around a matrix of `side` inches; a layout engine would shrink it to make room for the text."""
    ax = fig.axes[0]
    margin = max(map(_inches, ax.get_yticklabels())) + 0.5
    width, height = margin + max(side + 1.2, title), margin + side + 0.4
    fig.set_size_inches(width, height)
    ax.set_position([margin / width, margin / height, side / width, side / height])


def _inches(text: Text) -> float:
    return text.get_window_extent().width / text.figure.dpi


def shortened(names: list[str], longest: int = LONGEST) -> list[str]:
    """Cut the middle out of names over `longest` letters (East Asian count twice); number all if two become equal."""
    short = [_shortened(name, longest) for name in names]
    if len({*short}) == len({*names}):
        return short
    return [f'{i} {_shortened(name, longest)}' for i, name in enumerate(names, 1)]


def _shortened(name: str, longest: int) -> str:
    wide = [1 + (unicodedata.east_asian_width(c) in 'WF') for c in name]
    if sum(wide) <= longest:
        return name
    half = (longest - 1) // 2
    head, tail = int((np.cumsum(wide) <= half).sum()), int((np.cumsum(wide[::-1]) <= half).sum())
    return f'{name[:head]}…{name[len(name) - tail :]}'
