"""The review page of a run: its numbers, its pictures and its mistakes in one HTML file that needs nothing else."""

import hashlib
import json
from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path

import torch
from fastai.torch_core import one_param, to_device
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib import colormaps

from atomic import replacing
from bars import progress
from checked_file import read_file, read_json, read_table
from data.pictures import read_picture
from interpret.embedded import embedded_image, embedded_maps, in_base64
from interpret.gradcam import grad_cam
from interpret.interpretation import GradCAMInterpretation
from interpret.per_class import per_class

LIMIT = 25_000_000  # bytes of the page
ERRORS = 'backslashreplace'  # a file's name need not be UTF-8
REST = 10_000  # more than the bytes of the page's palette and stamps
PLACES = 40  # and of a mistake's places in the three orders
BATCH = 64
FOR_MAPS = LIMIT // 4  # of it, where there are so many mistakes that not all have room
IMAGE_SIDE, SAMPLES_SIDE, PLOT_SIDE = 128, 600, 1600  # pixels, at most
CLASSES = 100  # at most, in the confusion matrix and of the augmented samples: it's a page for people
PLOTS = {
    'accuracy': 'Accuracy on the training and the validation set',
    'lr_find': 'Learning-rate sweep',
    'accuracy_loss': 'Loss and accuracy, each set by itself',
}


def write_report(interp: GradCAMInterpretation, run: str | Path, layers=None) -> Path:
    """Write `run`/report.html, where a person reviews the mistakes of `interp`, and return its path.

    It shows what the run folder has of summary.json, config.json, history.csv and plots/, the Grad-CAM maps of `layers`
    (as `grad_cam` takes them) and what `interp.faithfulness` says of them. One file of at most 25 MB: if not all
    mistakes fit with an image, or with maps, it has those with the highest loss and says so. By default a model without
    maps has a page without; ValueError if it's `layers` that have none.
    """
    run, name = Path(run), Path(run).resolve().name
    table = interp.mistakes(k=None)
    # a browser keeps the verdicts under this name: as long as the run has these mistakes, wherever the page lies
    key = hashlib.sha256(f'{name}\n{table.iloc[:, :3].to_csv()}'.encode(errors=ERRORS)).hexdigest()[:32]
    page = {'name': name, 'key': key, 'wrong': len(table), **_numbers(interp), **_folder(run)}
    page['faithfulness'] = interp.faithfulness
    env = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    template = env.get_template('report.html.j2')

    mistakes, maps = [], []
    item = env.get_template('mistake.html.j2')
    room = LIMIT - REST - _size(template.render(page, mistakes=[], data={}))
    for mistake, image in zip(table.itertuples(), _images(interp, table.index.tolist()), strict=True):
        html = item.render(mistake=mistake, image=image)
        room -= _size(html) + PLACES
        if room < FOR_MAPS:
            break
        mistakes.append(Markup(html))
    table = table[: len(mistakes)]
    for cams in _maps(interp, table.index.tolist(), layers):
        room -= len(json.dumps(cams))
        if room < 0:
            break
        maps.append(cams)
    maps += [[]] * (len(mistakes) - len(maps))

    page['mapped'] = sum(map(bool, maps))
    orders = {'loss': -table.loss, 'doubt': table.label_quality, 'confidence': -table.probability}
    data = {
        'maps': maps,
        'orders': {name: by.to_numpy().argsort(kind='stable').tolist() for name, by in orders.items()},
        'stamps': {cam['layer']: interp.stamp(cam['layer']) for cams in maps[:1] for cam in cams},
        'colours': in_base64(colormaps['inferno'](range(256), bytes=True).tobytes()),
    }
    with replacing(run / 'report.html') as part:
        part.write_text(template.render(page, mistakes=mistakes, data=data), encoding='utf-8', errors=ERRORS)
    return run / 'report.html'


def _numbers(interp: GradCAMInterpretation) -> dict:
    """The confusion matrix, its classes that are shown, and precision, recall, F1 and number of images of each."""
    counts = interp.confusion_matrix()
    mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    return {
        'vocab': [str(o) for o in interp.vocab],
        'counts': counts.tolist(),
        'shown': sorted((-mistakes).argsort(kind='stable')[:CLASSES].tolist()),
        'scores': per_class(interp).to_dict('records'),
    }


def _folder(run: Path) -> dict:
    """What the run has left in its folder so far."""
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
    """The caption and the picture of each file that is a picture."""
    for file, caption in captions.items():
        if picture := read_picture(file):
            yield caption, embedded_image(picture, side)


def _images(interp: GradCAMInterpretation, idxs: list[int]) -> Iterator[dict]:
    """The images as a person sees them."""
    for start in range(0, len(idxs), BATCH):
        x, _, targs, _, _ = interp[idxs[start : start + BATCH]]
        for image in interp.dl._pre_show_batch((x, targs), max_n=len(x))[2].itemgot(0):
            yield embedded_image(image, IMAGE_SIDE)


def _maps(interp: GradCAMInterpretation, idxs: list[int], layers) -> Iterator[list[dict]]:
    """Of each image the layers' maps of what was predicted and of what it is.

    None if no `layers` were asked for and the model's own have no maps.
    """
    model = interp.learn.model
    step = min(interp.dl.bs, BATCH)  # what trained has the memory for that
    for start in progress(range(0, len(idxs), step), 'writing the page'):
        x, _, targs, decoded, _ = interp[idxs[start : start + step]]
        classes = torch.stack([decoded, targs], 1)
        try:
            cams = grad_cam(model, to_device(x, one_param(model).device), classes, layers, raw=True)
        except ValueError:
            if layers is not None:
                raise
            return
        yield from embedded_maps(cams)


def _size(html: str) -> int:
    return len(html.encode(errors=ERRORS))
