"""What a model looked at in single images: Grad-CAM of the predicted class, laid over the image."""

from pathlib import Path

import pandas as pd
from fastai.learner import Learner
from fastai.torch_core import TensorImage, to_np
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from checked_file import read_table
from errors import UserError
from interpret.figures import STYLE, lay_over, new_figure, save_figure
from interpret.fonts import drawable
from interpret.gradcam import grad_cam
from interpret.interpretation import stamp

BATCH = 8  # whose activations and gradients are in memory at once


def save_overlays(learn: Learner, x: TensorImage, preds: Tensor, files: list[Path]) -> None:
    """Write a picture of each image of the batch `x` (N x 3 x H x W) to `files`: what the network saw, and where.

    `preds` are its probabilities, N x classes. A layer that the run's faithfulness.csv doesn't trust is stamped.
    UserError for a model without maps.
    """
    table = _faithfulness(learn.path / 'faithfulness.csv')
    probabilities, classes = preds.max(1)
    for start in range(0, len(x), BATCH):
        batch = slice(start, start + BATCH)
        try:
            maps = grad_cam(learn.model, x[batch], classes[batch])
        except ValueError as e:
            raise UserError(f'no Grad-CAM: {e}') from e
        heads = [f'{layer}\n{stamp(table, layer)}'.rstrip() for layer in maps]
        for i, cams in enumerate(zip(*map(to_np, maps.values()), strict=True), start):
            (image,) = learn.dls.valid.after_item.decode((x[i].cpu(),))
            title = f'{learn.dls.vocab[classes[i]]} {probabilities[i]:.2f}'
            save_figure(plot_overlays(image, dict(zip(heads, cams, strict=True)), title), files[i])


@rc_context(STYLE)
def plot_overlays(image: TensorImage, maps: dict, title: str) -> Figure:
    """`image` (3 x H x W in [0, 1]) under `title`, then with each of `maps` (head -> H x W in [0, 1]) laid over it."""
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
            raise ValueError('a row a layer, and faithful is True or False')
        return table

    return read_table(file, 'faithfulness.csv of a run', parse)
