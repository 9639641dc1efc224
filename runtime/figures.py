"""Create, style and save figures."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runtime.files import replacing

STYLE = {
    'text.parse_math': False,  # a class name may contain dollar signs
    'figure.dpi': 150,
    'figure.constrained_layout.use': True,
    'font.size': 9,
    'axes.titlesize': 9,
    'figure.titlesize': 11,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '#E6E6E6',
    'lines.linewidth': 1.5,
    'lines.markersize': 3,
    'legend.edgecolor': 'none',
}


def new_figure(nrows: int = 1, ncols: int = 1, **kwargs) -> tuple[Figure, np.ndarray]:
    """Return a figure and its `nrows` x `ncols` axes. pyplot doesn't keep it: a notebook shows it once, none leaks."""
    fig, axs = plt.subplots(nrows, ncols, squeeze=False, **kwargs)
    plt.close(fig)
    return fig, axs


def save_figure(fig: Figure, path: str | Path) -> None:
    """Write `fig` to the PNG file `path` atomically and close it."""
    try:
        with replacing(Path(path)) as part:
            fig.savefig(part, format='png', bbox_inches='tight')
    finally:
        plt.close(fig)


def lay_over(ax: Axes, cam: np.ndarray, alpha: float = 0.5) -> None:
    """Draw a Grad-CAM map, H x W in [0, 1], over the image in `ax`."""
    ax.imshow(cam, cmap='inferno', alpha=alpha, vmin=0, vmax=1, interpolation='bilinear')


# Okabe and Ito's colours: colour-blind readers can tell them apart; in grey, lightness and line style differ.
TRAIN, VALID, OTHER = '#E69F00', '#0072B2', '#666666'
