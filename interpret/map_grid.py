"""Images beside their Grad-CAM maps."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from fastai.torch_core import TensorImage
from matplotlib import rc_context
from matplotlib.figure import Figure

from interpret.figures import STYLE, lay_over, new_figure
from interpret.fonts import drawable


@rc_context(STYLE)
def plot_map_grid(
    images: Sequence[TensorImage],
    maps: Mapping[str, np.ndarray],
    texts: Iterable[str],
    title: str,
    alone: bool,
    ncols: int = 1,
    **kwargs,
) -> Figure:
    """For each of the N `images`, under its text: the image, then each of its maps laid over it; `ncols` images a row.

    `maps`, each N x H x W in [0, 1], have the head of their column as a key; `alone` shows each without the image, too.
    `kwargs` go to the figure.
    """
    rows, step = -(-len(images) // ncols), 1 + alone
    cols = 1 + step * len(maps)
    # in inches: cells of 1.5 with 0.3 of text above each row, 0.5 of heads above all
    size = kwargs.pop('figsize', None) or (1.5 * cols * ncols, 1.8 * rows + 0.5)
    grid = {'left': 0, 'right': 1, 'bottom': 0, 'top': 1 - 0.8 / size[1], 'wspace': 0.05, 'hspace': 0.2}
    kwargs = {'dpi': 100, 'layout': 'none', 'gridspec_kw': grid, **kwargs}
    fig, axs = new_figure(rows, cols * ncols, figsize=size, **kwargs)
    fig.suptitle(title, y=1, va='top')
    places = axs.reshape(-1, cols)  # of the images, row by row
    for place in places[:ncols]:
        for head, ax in zip(maps, place[1::step], strict=True):
            ax.set_title(head, loc='left', fontweight='bold', pad=20)  # above the line that the first row's text takes
    for row, image, text, *cams in zip(places[: len(images)], images, drawable([*texts]), *maps.values(), strict=True):
        row[0].set_title(text, loc='left')
        image.show(ctx=row[0])
        for cam, axes in zip(cams, row[1:].reshape(-1, step), strict=True):
            image.show(ctx=axes[-1])
            lay_over(axes[-1], cam)
            if alone:
                lay_over(axes[0], cam, alpha=1.0)
    for ax in axs.flat:
        ax.axis('off')
    return fig
