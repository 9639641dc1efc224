"""Images, a network and a recipe that train in a second."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fastai.data.core import DataLoaders
from PIL import Image
from torch import Tensor, nn

from config.options import resolve_config
from config.recipes import PLATEAU, Recipe
from data.loaders import get_dls
from models.build import get_model
from models.speednet import SPEEDNETS, SpeedNet
from runtime.readings import Readings
from runtime.run_folder import new_run
from runtime.tensor_file import save_tensors

# raw weights, one view and a hole of half the side, as the values in tests assume
TINY = replace(PLATEAU, bs=4, sweep_steps=30, patience=4, hole=0.5, average=0.0, test_views=False)


def write_images(root: Path, train: int = 8, test: int = 4, size: tuple[int, int] = (16, 16)) -> Path:
    """Write <split>/<class>/<i>.png of three classes: noise around red, green and blue; no two images are equal."""
    rng = np.random.default_rng(0)
    for split, n in (('train', train), ('test', test)):
        for channel, name in enumerate(('red', 'green', 'blue')):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 100, (*size, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(root / split / name / f'{i:02}.png')
    return root


def tiny_dls(folder: Path, recipe=TINY, **kwargs) -> DataLoaders:
    """Loaders of `write_images`'s folder: batches of 4, a quarter of the training images held out, no workers."""
    return get_dls(folder, recipe, **{'bs': 4, 'valid': 0.25, 'num_workers': 0, **kwargs})


def write_run(
    out: Path, data: Path, recipe=TINY, classes=('blue', 'green', 'red'), size=(16, 16), resized=False
) -> Path:
    """Write a minimal run on `data` for predictions to `out`/run: config.json and untrained weights."""
    config = replace(resolve_config({'data': str(data)}), recipe=recipe)
    model = {'classes': list(classes), 'size': size, 'resized': resized}
    run = new_run(out, 'run', {**config.as_json(), **model, 'images': '', 'surroundings': {}})
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = get_model(recipe, len(classes), size)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the statistics of this one batch
        model(torch.randn(8, 3, *size))
        head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        head.weight *= 10  # else all images get similar predictions
    save_tensors(model.state_dict(), run / 'models/best.pth')
    return run


def tiny_net(n_out: int, last_stride: int, dropout: float) -> nn.Module:
    """A few hundred times smaller `cifar_resnet18`: four stages with the same names, BatchNorm, and `fc`."""
    model, widths = nn.Sequential(), (3, 4, 8, 8, 8)
    for i in range(4):
        conv = nn.Conv2d(widths[i], widths[i + 1], 3, stride=min(i + 1, 2), padding=1)
        model.add_module(f'layer{i + 1}', nn.Sequential(conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)))
    model.add_module('pool', nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)))
    model.add_module('fc', nn.Linear(widths[-1], n_out))
    return model


def tiny_model(recipe: Recipe, n_out: int, size: tuple[int, int], load: bool = True) -> nn.Module:
    """Replaces `get_model`: `tiny_net` instead of a ResNet."""
    if recipe.arch in SPEEDNETS:
        return SpeedNet(n_out, SPEEDNETS[recipe.arch])
    return tiny_net(n_out, recipe.last_stride, recipe.dropout)


def screen(out: str) -> list[str]:
    """The lines that a terminal shows after printing `out`, without overwritten text."""
    lines = []
    for printed in out.split('\n'):
        line = ''
        for text in printed.split('\r'):
            line = text + line[len(text) :]
        lines.append(line.rstrip())
    return lines


class LateReadings(Readings):
    """Readings of a GPU that is three values behind the host."""

    def read(self, wait: bool = False) -> Iterator[tuple[Tensor, Any]]:
        """Yield all values but the last three, or all with `wait`."""
        while len(self.queue) > (0 if wait else 3):
            value, note, _ = self.queue.popleft()
            yield value, note
