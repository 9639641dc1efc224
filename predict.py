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

import pandas as pd

from data.prediction import batches, find_files, probabilities
from interpret.gradcam_plots import save_overlays
from runtime.csv_file import write_csv
from runtime.errors import UserError, ends_in_one_line, printable
from training.saved_run import load_model

NAME_MAX, PATH_MAX = 255, 4000  # bytes; Linux allows 96 more per path, which leaves room for a temporary file's name


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


def as_table(classes: list[str], results: dict[Path, list | str], k: int) -> str:
    """A line for each usable file, with its `k` most probable classes."""
    rows = [('file', *map(_ordinal, range(1, min(k, len(classes)) + 1)))]
    for file, result in results.items():
        if not isinstance(result, str):
            best = _most_probable(classes, result, k)
            rows.append((printable(file), *(f'{printable(name)} {p:.1%}' for name, p in best)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_frame(classes: list[str], results: dict[Path, list | str], k: int) -> pd.DataFrame:
    """A row per file: file, class, probability, class_2, probability_2 ... for the `k` most probable, and error."""
    places = ['', *(f'_{n}' for n in range(2, min(k, len(classes)) + 1))]
    rows = []
    for file, result in results.items():
        row = {'file': str(file), 'error': result if isinstance(result, str) else None}
        if not isinstance(result, str):
            for place, (name, p) in zip(places, _most_probable(classes, result, k), strict=True):
                row |= {f'class{place}': name, f'probability{place}': p}
        rows.append(row)
    return pd.DataFrame(rows, columns=['file', *(f'{o}{n}' for n in places for o in ('class', 'probability')), 'error'])


def _most_probable(classes: list[str], result: list[float], k: int) -> list[tuple[str, float]]:
    return sorted(zip(classes, result, strict=True), key=lambda o: o[1], reverse=True)[:k]


def _ordinal(n: int) -> str:
    endings = {} if n % 100 in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}
    return f'{n}{endings.get(n % 10, "th")}'


def main(
    run: str, images: list[str], json: bool = False, gradcam: str | None = None, csv: str | None = None, topk: int = 3
) -> None:
    """Print the classes that the model of `run` predicts for `images`, or write a `csv`; SystemExit for an error."""
    with ends_in_one_line('predict.py'):
        classes, results = predict(run, images, gradcam and Path(expanduser(gradcam)))
        bad = {file: reason for file, reason in results.items() if isinstance(reason, str)}
        if csv:
            write_csv(as_frame(classes, results, topk), Path(expanduser(csv)))
        if json:
            print(as_json(classes, results))
        elif not csv and len(bad) < len(results):
            print(as_table(classes, results, topk))
        for file, reason in bad.items():
            print(printable(f'predict.py: {file}: {reason}'), file=sys.stderr)
        if len(bad) == len(results):
            raise UserError(f'none of {len(results):,} files could be used')
        if bad:
            print(f'predict.py: {len(bad):,} of {len(results):,} files could not be used', file=sys.stderr)


if __name__ == '__main__':
    main(**OPTIONS)
