"""The review page of a run: its numbers, its pictures and its mistakes in one HTML file that needs nothing else."""

import base64
import hashlib
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fastai.torch_core import one_param, to_device
from jinja2 import Environment, FileSystemLoader
from matplotlib import colormaps
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor

from atomic import replacing
from interpret.gradcam import _rescale, grad_cam
from interpret.interpretation import GradCAMInterpretation

LIMIT = 25_000_000  # bytes of the page
TEXT = 2_000  # more bytes than the markup of one mistake takes
BATCH = 64
IMAGE_SIDE, MAP_SIDE, PLOT_SIDE, SAMPLES_SIDE = 128, 32, 1600, 600  # at most, in pixels
CLASSES = 100  # at most, in the confusion matrix and the augmented samples
PLOTS = {
    'accuracy': 'Accuracy on the training and the validation set',
    'accuracy_loss': 'Loss and accuracy, each set by itself',
    'lr_find': 'Learning-rate sweep',
}


def write_report(interp: GradCAMInterpretation, run: str | Path, layers=None) -> Path:
    """Write `report.html`, the review page of the mistakes of `interp`, to the run folder `run`, and return its path.

    What else the folder has (summary, configuration, history, plots) is shown too. `layers` are those of `grad_cam`.
    The page takes at most 25 MB: of more mistakes than fit it holds those with the highest loss, and says so.
    """
    run = Path(run)
    table = interp.mistakes(k=None)
    vocab = [str(o) for o in interp.vocab]
    counts = interp.confusion_matrix()
    confused = (counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()).argsort(kind='stable')[::-1]
    history, config = run / 'history.csv', run / 'config.json'
    samples = sorted((run / 'plots/augmented').glob('*.png'))
    page = {
        'name': run.resolve().name,
        # kept between visits is what was said of these mistakes of this run, wherever it lies
        'key': hashlib.sha256(f'{run.resolve().name}\n{table.iloc[:, :3].to_csv()}'.encode()).hexdigest()[:32],
        'summary': json.loads(_text(run / 'summary.json') or '{}'),
        'config': _text(config),
        'history': pd.read_csv(history).to_dict('records') if history.exists() else [],
        'plots': [(text, _plot(f, PLOT_SIDE)) for k, text in PLOTS.items() if (f := run / f'plots/{k}.png').exists()],
        'samples': [(f.stem, _plot(f, SAMPLES_SIDE)) for f in samples[:CLASSES]],
        'samples_left_out': len(samples[CLASSES:]),
        'vocab': vocab,
        'counts': counts.tolist(),
        'shown_classes': sorted(confused[:CLASSES].tolist()),
        'scores': list(zip(vocab, *_scores(interp), strict=True)),
        'total': len(interp.targs),
        'wrong': len(table),
    }
    env = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = env.get_template('report.html.j2')
    room = LIMIT - len(template.render(page, mistakes=[], data={}).encode())

    images, maps = [], []
    for image, its_maps in _pictures(interp, table.index.tolist(), layers):
        room -= len(image) + len(json.dumps(its_maps)) + TEXT
        if room < 0:
            break
        images.append(image)
        maps.append(its_maps)
    table = table[: len(images)]
    data = {
        'mistakes': [
            {'id': i, 'file': o.file, 'actual': str(o.actual), 'predicted': str(o.predicted), 'maps': its_maps}
            for (i, o), its_maps in zip(table.iterrows(), maps, strict=True)
        ],
        'orders': {
            'loss': list(range(len(table))),
            'doubt': table.label_quality.to_numpy().argsort(kind='stable').tolist(),
            'confidence': (-table.probability.to_numpy()).argsort(kind='stable').tolist(),
        },
        'colours': _base64((colormaps['inferno'](range(256))[:, :3] * 255).round().astype(np.uint8)),
    }
    with replacing(run / 'report.html') as part:
        html = template.render(page, mistakes=list(zip(table.itertuples(), images, strict=True)), data=data)
        part.write_text(html, encoding='utf-8')
    return run / 'report.html'


def _pictures(interp: GradCAMInterpretation, idxs: list[int], layers) -> Iterator[tuple[str, list[dict]]]:
    """Of each image: itself, as a data URI, and for each layer the maps of the predicted and of the actual class."""
    model = interp.learn.model
    for start in range(0, len(idxs), BATCH):
        chosen = idxs[start : start + BATCH]
        x, _, targs, decoded, _ = interp[chosen]
        images = interp.dl._pre_show_batch((x, targs), max_n=len(chosen))[2].itemgot(0)
        classes = torch.stack([decoded, targs], 1)
        cams = grad_cam(model, to_device(x, one_param(model).device), classes, layers, raw=True)
        cams = {layer: _bytes(cam) for layer, cam in cams.items()}
        for i, tensor in enumerate(images):
            image = _to_pil(tensor)
            image.thumbnail((IMAGE_SIDE, IMAGE_SIDE))
            size = dict(zip(('width', 'height'), image.size, strict=True))
            yield _data_uri(image), [_map(layer, cam[i], size) for layer, cam in cams.items()]


def _scores(interp):
    return precision_recall_fscore_support(
        interp.targs, interp.decoded, labels=range(len(interp.vocab)), zero_division=0
    )
