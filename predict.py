"""Classify images with the model of a run: `python predict.py --help`."""

from own_modules import refuse_hidden_modules

refuse_hidden_modules()

from config.command_line import predict_parser
from runtime.errors import exit_on_interrupt

if __name__ == '__main__':
    exit_on_interrupt('predict.py')
    OPTIONS = vars(predict_parser().parse_args())  # before PyTorch is imported, which takes seconds

import os
import sys
from hashlib import sha256
from json import dumps
from os.path import expanduser
from pathlib import Path

from data.prediction import batches, find_files, probabilities
from interpret.gradcam_plots import save_overlays
from runtime.errors import UserError, ends_in_one_line, printable
from training.saved_run import load_model

NAME_MAX, PATH_MAX = 255, 4000  # bytes; Linux allows 96 more per path, which leaves room for a temporary file's name
SHOWN = '1st', '2nd', '3rd'  # classes of an image in the table; --json has all


def predict(run: str, arguments: list[str], gradcam: Path | None = None) -> tuple[list[str], dict[Path, list | str]]:
    """Return the classes of `run`, and each file's probabilities or why it is bad; writes pictures to `gradcam`."""
    learn, (files, bad) = load_model(run), find_files(arguments)
    results = {**dict.fromkeys(files), **dict(bad)}
    pictures = _pictures(files, gradcam) if gradcam else {}
    for good, x, unusable in batches(learn, files):
        results.update(unusable)
        if not good:
            continue
        preds = probabilities(learn, x)
        results.update(zip(good, preds.tolist(), strict=True))
        if pictures:
            save_overlays(learn, x, preds, [pictures[file] for file in good])
    return list(learn.dls.vocab), results


def _pictures(files: list[Path], folder: Path) -> dict[Path, Path]:
    """The path in `folder` for each file's picture; it mirrors the files' folders, so that no names clash."""
    paths = [os.path.abspath(file) for file in files]
    common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ''
    return {file: _shortened(folder, os.path.relpath(path, common)) for file, path in zip(files, paths, strict=True)}


def _shortened(folder: Path, path: str) -> Path:
    """`folder`/`path`.png, or if that is too long, `folder`/START-DIGEST.png, where DIGEST is unique to `path`."""
    picture, name = folder / f'{path}.png', os.fsencode(os.path.basename(path))
    if len(name) + len('.png') <= NAME_MAX and len(os.fsencode(os.path.abspath(picture))) <= PATH_MAX:
        return picture
    digest = sha256(os.fsencode(path)).hexdigest()[:16]
    return folder / f'{name[:100].decode(errors="ignore")}-{digest}.png'


def as_json(classes: list[str], results: dict[Path, list | str]) -> str:
    """A JSON list with an object per file: class, probability and all probabilities, or an error."""
    rows = []
    for file, result in results.items():
        if isinstance(result, str):
            rows.append({'file': str(file), 'error': result})
            continue
        best = max(range(len(classes)), key=result.__getitem__)
        by_class = dict(zip(classes, result, strict=True))
        rows.append({'file': str(file), 'class': classes[best], 'probability': result[best], 'probabilities': by_class})
    return dumps(rows, indent=1)


def as_table(classes: list[str], results: dict[Path, list | str]) -> str:
    """A line for each usable file, with its most probable classes."""
    rows = [('file', *SHOWN[: len(classes)])]
    for file, result in results.items():
        if not isinstance(result, str):
            best = sorted(zip(result, classes, strict=True), reverse=True)[: len(SHOWN)]
            rows.append((printable(file), *(f'{printable(name)} {p:.1%}' for p, name in best)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(run: str, images: list[str], json: bool = False, gradcam: str | None = None) -> None:
    """Print the classes that the model of `run` predicts for `images`; SystemExit for an error."""
    with ends_in_one_line('predict.py'):
        classes, results = predict(run, images, gradcam and Path(expanduser(gradcam)))
        bad = {file: reason for file, reason in results.items() if isinstance(reason, str)}
        if json:
            print(as_json(classes, results))
        elif len(bad) < len(results):
            print(as_table(classes, results))
        for file, reason in bad.items():
            print(printable(f'predict.py: {file}: {reason}'), file=sys.stderr)
        if len(bad) == len(results):
            raise UserError(f'none of {len(results):,} files could be used')
        if bad:
            print(f'predict.py: {len(bad):,} of {len(results):,} files could not be used', file=sys.stderr)


if __name__ == '__main__':
    main(**OPTIONS)
