"""How any picture is made, looks, and is saved."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atomic import replacing

STYLE = {
    'text.parse_math': False,  # a class may be named with dollars
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
    """A figure and its `nrows` x `ncols` axes, not kept by pyplot: a notebook shows it once, none leaks."""
    fig, axs = plt.subplots(nrows, ncols, squeeze=False, **kwargs)
    plt.close(fig)
    return fig, axs


def save_figure(fig: Figure, path: str | Path) -> None:
    """Write `fig` as the PNG file `path` and close it; whoever looks finds the old file or the whole new one."""
    try:
        with replacing(Path(path)) as part:
            fig.savefig(part, format='png', bbox_inches='tight')
    finally:
        plt.close(fig)


def lay_over(ax: Axes, cam: np.ndarray, alpha: float = 0.5) -> None:
    """Draw a Grad-CAM map, H x W in [0, 1], over whatever `ax` shows."""
    ax.imshow(cam, cmap='inferno', alpha=alpha, vmin=0, vmax=1, interpolation='bilinear')
