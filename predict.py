"""Classify images with the model of a run: `python predict.py --help`."""

from own_modules import refuse_hidden_modules

refuse_hidden_modules()

from errors import exit_on_interrupt

if __name__ == '__main__':
    exit_on_interrupt('predict.py')

import os
import sys
import warnings
from hashlib import sha256
from json import dumps
from os.path import expanduser
from pathlib import Path
from typing import Annotated

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # from inside fastai, nothing for its user to do

from fastcore.script import call_parse

from command_line import one_screen
from errors import UserError, ends_in_one_line, printable
from inference import batches, find_files, probabilities
from interpret.overlay import save_overlays
from reopen import load_model

NAME_MAX, PATH_MAX = 255, 4000  # bytes of a name and of a path; Linux has 96 more, for a file in the making
SHOWN = '1st', '2nd', '3rd'  # of an image's classes, in the table; --json has all


def predict(run: str, arguments: list[str], gradcam: Path | None = None) -> tuple[list[str], dict[Path, list | str]]:
    """The classes of `run`, and for each file that `arguments` name its probabilities, or why it can't be used.

    Writes a Grad-CAM picture of each image to the folder `gradcam`.
    """
    learn, (files, bad) = load_model(run), find_files(arguments)
    told = {**dict.fromkeys(files), **dict(bad)}
    pictures = _pictures(files, gradcam) if gradcam else {}
    for good, x, unusable in batches(learn, files):
        told.update(unusable)
        if not good:
            continue
        preds = probabilities(learn, x)
        told.update(zip(good, preds.tolist(), strict=True))
        if pictures:
            save_overlays(learn, x, preds, [pictures[file] for file in good])
    return list(learn.dls.vocab), told


def _pictures(files: list[Path], folder: Path) -> dict[Path, Path]:
    """Where the picture of each file goes: in `folder` as they lie below their common one, so that no names clash."""
    paths = [os.path.abspath(file) for file in files]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    return {file: _shortened(folder, os.path.relpath(path, common)) for file, path in zip(files, paths, strict=True)}


def _shortened(folder: Path, path: str) -> Path:
    """`folder`/`path`.png, or where that is too long a name `folder`/START-DIGEST.png, which no other path becomes."""
    picture, name = folder / f'{path}.png', os.fsencode(os.path.basename(path))
    if len(name) + len('.png') <= NAME_MAX and len(os.fsencode(os.path.abspath(picture))) <= PATH_MAX:
        return picture
    digest = sha256(os.fsencode(path)).hexdigest()[:16]
    return folder / f'{name[:100].decode(errors="ignore")}-{digest}.png'


def as_json(classes: list[str], told: dict[Path, list | str]) -> str:
    """A list with an object for each file: class, probability and all probabilities, or an error."""
    rows = []
    for file, result in told.items():
        if isinstance(result, str):
            rows.append({'file': str(file), 'error': result})
            continue
        best = max(range(len(classes)), key=result.__getitem__)
        by_class = dict(zip(classes, result, strict=True))
        rows.append({'file': str(file), 'class': classes[best], 'probability': result[best], 'probabilities': by_class})
    return dumps(rows, indent=1)


def as_table(classes: list[str], told: dict[Path, list | str]) -> str:
    """A line for each file that could be used, with its most probable classes."""
    rows = [('file', *SHOWN[: len(classes)])]
    for file, result in told.items():
        if not isinstance(result, str):
            best = sorted(zip(result, classes, strict=True), reverse=True)[: len(SHOWN)]
            rows.append((printable(file), *(f'{printable(name)} {p:.1%}' for p, name in best)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


@call_parse
@one_screen
def main(
    run: str,  # folder of the run
    images: Annotated[list[str], {'nargs': '+', 'type': str}],  # files, folders with all below them, or globs
    json: bool = False,  # print all probabilities, as JSON
    gradcam: str | None = None,  # folder for a picture of each image: where each layer saw the predicted class
):
    """Classify images with the model of a run."""
    with ends_in_one_line('predict.py'):
        classes, told = predict(run, images, gradcam and Path(expanduser(gradcam)))
        bad = {file: reason for file, reason in told.items() if isinstance(reason, str)}
        if json:
            print(as_json(classes, told))
        elif len(bad) < len(told):
            print(as_table(classes, told))
        for file, reason in bad.items():
            print(printable(f'predict.py: {file}: {reason}'), file=sys.stderr)
        if len(bad) == len(told):
            raise UserError(f'none of {len(told):,} files could be used')
        if bad:
            print(f'predict.py: {len(bad):,} of {len(told):,} files could not be used', file=sys.stderr)
