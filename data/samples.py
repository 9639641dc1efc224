"""Pictures of augmented images."""

import random
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from fastai.data.core import DataLoaders
from matplotlib import rc_context
from matplotlib.figure import Figure

from data.seeded_loader import batch_at
from runtime.figures import STYLE, new_figure, save_figure
from runtime.fonts import drawable
from runtime.processes import on_rank0
from runtime.progress import progress


@on_rank0
def draw_samples(dls: DataLoaders, run: Path) -> None:
    """Save a picture of augmented training images per class in `run`/plots/augmented; skip existing pictures."""
    files = {cls: run / f'plots/augmented/{cls}.png' for cls in dls.vocab}
    missing = [cls for cls, file in files.items() if not file.is_file()]
    for cls in progress(missing, 'augmented samples'):
        save_figure(plot_augmented(dls, cls), files[cls])


@rc_context(STYLE)
def plot_augmented(dls: DataLoaders, cls: str, n: int = 16) -> Figure:
    """Plot `n` training images of the class `cls` (repeated if there are fewer), augmented anew, in true colours."""
    dl, label = dls.train, list(dls.vocab).index(cls)
    labels = dl.dataset.tls[-1]
    # files are sorted by class, and reading a label takes 0.2 ms: in random order `n` are found soon
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
