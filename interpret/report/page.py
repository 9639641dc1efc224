"""The review page of a run: its numbers, pictures and mistakes in one self-contained HTML file."""

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from operator import methodcaller
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import torch
from fastai.torch_core import one_param, to_device
from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from data.crop import Box
from data.pictures import read_picture
from interpret.gradcam import grad_cam
from interpret.hooks import NoMaps
from interpret.interpretation import GradCAMInterpretation
from interpret.report.embedded import embedded_image, embedded_maps, in_base64
from interpret.report.photograph import read_photograph
from interpret.stamps import most_faithful, stamp_with_reason
from runtime.checked_file import read_file, read_json, read_table
from runtime.files import replacing
from runtime.progress import progress

LIMIT = 25_000_000  # maximum size of the page, in bytes

ERRORS = 'backslashreplace'  # a file's name need not be UTF-8
REST = 10_000  # bytes reserved for the palette and the stamps
PLACES = 40  # bytes reserved for a mistake's positions in the three orders
BATCH = 64
FOR_MAPS = LIMIT // 4  # bytes reserved for maps if not all mistakes fit
IMAGE_SIDE, SAMPLES_SIDE, PLOT_SIDE = 384, 600, 1600  # maximum, in pixels
MANY, SMALL_SIDE = 800, 128  # a photograph of 384 pixels takes about 20 kB: more mistakes than this get smaller ones
CLASSES = 100  # maximum in the confusion matrix and among the augmented samples, to keep the page readable
PLOTS = {
    'accuracy': 'Accuracy on the training and the validation set',
    'lr_find': 'Learning-rate sweep',
    'accuracy_loss': 'Loss and accuracy, one panel per set',
}


def write_report(interp: GradCAMInterpretation, run: str | Path, layers=None) -> Path:
    """Write `run`/report.html, a page to review the mistakes of `interp`, and return its path.

    It shows the run folder's summary.json, config.json, history.csv and plots/, if they exist, the Grad-CAM maps of
    `layers` (as in `grad_cam`) and `interp.faithfulness`. The page is one file of at most 25 MB: if not all mistakes
    fit with their images, or maps, it keeps those with the highest loss and says so. A model without maps gets a page
    without maps; raises NoMaps if `layers` are given and have none.
    """
    run, name = Path(run), Path(run).resolve().name
    table = interp.mistakes(k=None)
    # the browser stores verdicts under this key, which depends on the run's name and mistakes, not on the page's path
    key = hashlib.sha256(f'{name}\n{table.iloc[:, :3].to_csv()}'.encode(errors=ERRORS)).hexdigest()[:32]
    page = {'name': name, 'key': key, 'wrong': len(table), **_numbers(interp), **_folder(run)}
    page['faithfulness'] = interp.faithfulness
    page['stamp'] = partial(stamp_with_reason, interp.faithfulness)
    env = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = env.get_template('report.html.j2')

    data = {'classes': page['vocab'], 'split': _split(interp)}
    room = LIMIT - REST - _size(template.render(page, mistakes=[], data=data))
    mistakes, maps = _that_fit(interp, table, run, env.get_template('mistake.html.j2'), room, layers)
    table = table[: len(mistakes)]
    page['mapped'] = sum(map(bool, maps))
    orders = {'loss': -table.loss, 'doubt': table.label_quality, 'confidence': -table.probability}
    mapped = [cam['layer'] for cams in maps[:1] for cam in cams]
    data |= {
        'maps': maps,
        'orders': {name: by.to_numpy().argsort(kind='stable').tolist() for name, by in orders.items()},
        'stamps': {layer: stamp_with_reason(interp.faithfulness, layer) for layer in mapped},
        'first': most_faithful(interp.faithfulness, mapped),
        'colours': in_base64(colormaps['inferno'](range(256), bytes=True).tobytes()),
    }
    with replacing(run / 'report.html') as part:
        part.write_text(template.render(page, mistakes=mistakes, data=data), encoding='utf-8', errors=ERRORS)
    return run / 'report.html'


def _numbers(interp: GradCAMInterpretation) -> dict:
    counts = interp.confusion_matrix()
    mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    return {
        'vocab': [str(o) for o in interp.vocab],
        'counts': counts.tolist(),
        'shown': sorted((-mistakes).argsort(kind='stable')[:CLASSES].tolist()),
        'scores': interp.per_class().to_dict('records'),
    }


def _folder(run: Path) -> dict:
    summary, config, history = (run / name for name in ('summary.json', 'config.json', 'history.csv'))
    plots = {run / f'plots/{name}.png': caption for name, caption in PLOTS.items()}
    epochs = methodcaller('to_dict', 'records')
    samples = sorted((run / 'plots/augmented').glob('*.png'))
    return {
        'summary': read_json(summary, 'summary.json of a run', dict) if summary.exists() else {},
        'config': read_file(config, 'config.json of a run', str) if config.exists() else '',
        'history': read_table(history, 'history.csv of a run', epochs) if history.exists() else [],
        'plots': list(_pictures({f: caption for f, caption in plots.items() if f.exists()}, PLOT_SIDE)),
        'samples': list(_pictures({f: f.stem for f in samples[:CLASSES]}, SAMPLES_SIDE)),
        'samples_left_out': len(samples[CLASSES:]),
    }


def _pictures(captions: dict[Path, str], side: int) -> Iterator[tuple[str, dict]]:
    for file, caption in captions.items():
        if picture := read_picture(file):
            yield caption, embedded_image(picture, side)


def _that_fit(
    interp: GradCAMInterpretation, table: pd.DataFrame, run: Path, item: Template, room: int, layers
) -> tuple[list[Markup], list[list[dict]]]:
    """The first mistakes of `table` that fit into `room` bytes, as list items, and the maps of each, [] for none."""
    items, maps, ends = [], [], [0]
    step = min(interp.dl.bs, BATCH)  # training had memory for this batch size
    side = IMAGE_SIDE if len(table) <= MANY else SMALL_SIDE
    for start in progress(range(0, len(table), step), 'writing the page'):
        some = table[start : start + step]
        x, _, targs, decoded, _ = interp[some.index]  # once: reading and resizing a photograph takes up to 0.1 s
        images = interp.dl._pre_show_batch((x, targs), max_n=len(x))[2].itemgot(0)
        cams = _maps(interp, x, targs, decoded, layers) if ends[-1] <= room else [[]] * len(some)
        for mistake, image, own in zip(some.itertuples(), images, cams, strict=True):
            whole, seen = _whole(interp, mistake.Index, side) or (image, None)
            href = _link(interp, mistake.Index, run)
            html = item.render(mistake=mistake, image=embedded_image(whole, side), seen=seen, href=href)
            room -= _size(html) + PLACES
            if room < FOR_MAPS:
                break
            items.append(Markup(html))
            maps.append(own)
            ends.append(ends[-1] + len(json.dumps(own)))
        if room < FOR_MAPS:
            break
    return items, [own if end <= room else [] for own, end in zip(maps, ends[1:], strict=True)]


def _split(interp: GradCAMInterpretation) -> str:
    """The split of the images; '' if they aren't those of one of the Learner's loaders."""
    loaders = zip(('train', 'valid', 'test'), interp.learn.dls.loaders, strict=False)
    return next((name for name, dl in loaders if dl.dataset is interp.dl.dataset), '')


def _whole(interp: GradCAMInterpretation, i: int, side: int) -> tuple[Image.Image, Box] | None:
    """A photograph and the part that the network saw; None if the network's input is the whole image."""
    return read_photograph(interp.dl, i, side) if getattr(interp.learn.dls, 'resized', False) else None


def _link(interp: GradCAMInterpretation, i: int, run: Path) -> str | None:
    """The address of the file of image `i` relative to the page; None if it has no file."""
    file = interp.path(i)
    return file and quote(os.fsencode(os.path.relpath(file, run)))


def _maps(interp: GradCAMInterpretation, x: Tensor, targs: Tensor, decoded: Tensor, layers) -> list[list[dict]]:
    """The maps of the predicted and the actual class of each image; [] if `layers` is None and the model has none."""
    model = interp.learn.model
    x, classes = to_device(x, one_param(model).device), torch.stack([decoded, targs], 1)
    try:
        return list(embedded_maps(grad_cam(model, x, classes, layers, raw=True)))
    except NoMaps:
        if layers is not None:
            raise
        return [[]] * len(x)


def _size(html: str) -> int:
    return len(html.encode(errors=ERRORS))
