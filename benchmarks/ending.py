"""Read the results of a run, to compare them with another run's bit for bit."""

import csv
import json
from pathlib import Path

import torch
from PIL import Image


def unreadable(run: Path) -> list[Path]:
    """Files, under their final names, that can't be read."""
    bad = []
    for file in run.rglob('*'):
        try:
            if file.suffix == '.pth':
                torch.load(file, weights_only=True)
            elif file.suffix == '.json':
                json.loads(file.read_text())
            elif file.suffix == '.png':
                Image.open(file).load()
            elif file.suffix == '.csv':
                list(csv.DictReader(file.open(), strict=True))
        except Exception as e:  # each reader raises its own errors
            print(f'{file}: {e}')
            bad.append(file)
    return bad


def ending(run: Path) -> dict:
    """The results that must be equal, as comparable values."""
    last = torch.load(run / 'models/last.pth', weights_only=True)
    del last['callbacks']['history']  # it has the seconds; history.csv is compared without them
    rows = [{**row, 'seconds': None} for row in csv.DictReader((run / 'history.csv').open())]
    return {
        'best.pth': _bits(torch.load(run / 'models/best.pth', weights_only=True)),
        'last.pth': _bits(last),
        'history.csv': rows,
        'mistakes.csv': (run / 'mistakes.csv').read_text(),
        'test accuracy': json.loads((run / 'summary.json').read_text())['test_accuracy'],
    }


def _bits(content):
    """`content` with each tensor as its type, shape and bytes."""
    if isinstance(content, dict):
        return {key: _bits(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_bits(value) for value in content]
    if isinstance(content, torch.Tensor):
        return content.dtype, content.shape, content.contiguous().numpy().tobytes()
    return content
