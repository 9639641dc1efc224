"""Pictures of Grad-CAM maps."""

from pathlib import Path

import numpy as np
import pandas as pd
from fastai.vision.all import Learner, TensorImage, to_np
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from interpret.gradcam import grad_cam
from interpret.hooks import NoMaps
from interpret.stamps import stamp
from runtime.checked_file import read_table
from runtime.errors import UserError
from runtime.figures import STYLE, lay_over, new_figure, save_figure
from runtime.fonts import drawable


# without a grid and with a fixed height of titles, hundreds of hidden axes need no ticks
@rc_context({**STYLE, 'axes.grid': False, 'axes.titley': 1})
def plot_map_grid(
    images: list[TensorImage], maps: dict[str, np.ndarray], texts: list[str], title: str, alone: bool, ncols=1, **kwargs
) -> Figure:
    """Plot N `images`, each under its text and followed by its maps laid over it; `ncols` images per row.

    `maps` is {column title: N x H x W in [0, 1]}; `alone` also shows each map by itself. `kwargs` go to the figure.
    """
    rows, step = -(-len(images) // ncols), 1 + alone
    cols = 1 + step * len(maps)
    # inches: cells of 1.5, text of 0.3 above each row, titles of 0.5 on top
    size = kwargs.pop('figsize', None) or (1.5 * cols * ncols, 1.8 * rows + 0.5)
    grid = {'left': 0, 'right': 1, 'bottom': 0, 'top': 1 - 0.8 / size[1], 'wspace': 0.05, 'hspace': 0.2}
    kwargs = {'dpi': 100, 'layout': 'none', 'gridspec_kw': grid, **kwargs}
    fig, axs = new_figure(rows, cols * ncols, figsize=size, **kwargs)
    fig.suptitle(title, y=1, va='top')
    places = axs.reshape(-1, cols)  # one row per image
    for place in places[:ncols]:
        for head, ax in zip(maps, place[1::step], strict=True):
            ax.set_title(head, loc='left', fontweight='bold', pad=20)  # above the first row's text
    for row, image, text, *cams in zip(places[: len(images)], images, drawable(texts), *maps.values(), strict=True):
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


BATCH = 8  # images, to limit the activations and gradients in memory


def save_overlays(learn: Learner, x: TensorImage, preds: Tensor, files: list[Path]) -> None:
    """Plot each image of the batch `x` (N x 3 x H x W) with its Grad-CAM maps, and save it to its file of `files`.

    `preds` are N x classes. Layers not faithful by the run's csv are stamped. UserError for a model without maps.
    """
    table = _faithfulness(learn.path / 'faithfulness.csv')
    probabilities, classes = preds.max(1)
    for start in range(0, len(x), BATCH):
        batch = slice(start, start + BATCH)
        try:
            maps = grad_cam(learn.model, x[batch], classes[batch])
        except NoMaps as e:
            raise UserError(f'no Grad-CAM: {e}') from e
        heads = [f'{layer}\n{stamp(table, layer)}'.rstrip() for layer in maps]
        for i, cams in enumerate(zip(*map(to_np, maps.values()), strict=True), start):
            (image,) = learn.dls.valid.after_item.decode((x[i].cpu(),))
            title = f'{learn.dls.vocab[classes[i]]} {probabilities[i]:.2f}'
            save_figure(plot_overlays(image, dict(zip(heads, cams, strict=True)), title), files[i])


@rc_context(STYLE)
def plot_overlays(image: TensorImage, maps: dict, title: str) -> Figure:
    """Plot `image` (3 x H x W in [0, 1]), then each of `maps` ({title: H x W in [0, 1]}) laid over it."""
    fig, axs = new_figure(1, 1 + len(maps), figsize=(1.8 * (1 + len(maps)), 2.4), dpi=100)
    for ax, (head, cam) in zip(axs[0], {drawable([title])[0]: None, **maps}.items(), strict=True):
        image.show(ctx=ax)
        if cam is not None:
            lay_over(ax, cam)
        ax.set_title(head, loc='left')
        ax.axis('off')
    return fig


def _faithfulness(file: Path) -> pd.DataFrame | None:
    if not file.is_file():
        return None

    def parse(table):
        table = table.set_index('layer')
        if table['faithful'].dtype != bool or not table.index.is_unique:
            raise ValueError('it needs one row per layer, with True or False for faithful')
        return table

    return read_table(file, 'faithfulness.csv of a run', parse)
