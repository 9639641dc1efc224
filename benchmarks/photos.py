"""Time decoding and augmenting photographs, with this project and with others.

    python benchmarks/photos.py
    python benchmarks/photos.py --cores 2

The photographs are random parts of scikit-learn's two, as JPEGs of 500x375 and of 3000x2000 pixels. All implementations
give normalised float batches of 224x224: a random crop of 35% to 100% of the area, and a flip. Each round times every
implementation once, so that other load on the machine affects all of them. With several cores, each loader has one
worker process per core.
"""

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))
from config.recipes import PLATEAU
from data import examine
from data.loaders import get_dls
from training.memory import keep_freed_memory

# importing `data` first keeps Albumentations from asking the network for updates
# isort: split
import cv2
import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.data.external import fastai_cfg
from fastai.data.transforms import IndexSplitter, Normalize, parent_label
from fastai.vision.augment import RandomResizedCrop, aug_transforms
from fastai.vision.core import imagenet_stats
from fastai.vision.data import ImageBlock
from fastcore.basics import defaults
from fastcore.script import call_parse
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import create_transform
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

SIZES = (500, 375, 1), (3000, 2000, 5)  # width, height, divisor of the number of photographs
SIDE, SCALE, (MEAN, STD) = 224, (PLATEAU.min_scale, 1.0), imagenet_stats
RECIPE = replace(PLATEAU, hole=0.0, mean=tuple(MEAN), std=tuple(STD), schedule='triangle', valid=0.0)
PEER = 'torchvision v2, its own decoder'


def write_photographs(root: Path, width: int, height: int, n: int) -> Path:
    """Write `n` training images and two test images of two classes; each is a different part of a photograph."""
    rng = np.random.default_rng(0)
    for name, image in zip(('temple', 'flower'), load_sample_images().images, strict=True):
        for split, number in (('train', n // 2), ('test', 1)):
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                h, w = (int(side * rng.uniform(0.7, 1)) for side in image.shape[:2])
                top, left = (int(rng.integers(0, a - b + 1)) for a, b in zip(image.shape, (h, w), strict=False))
                part = Image.fromarray(image[top : top + h, left : left + w])
                file = root / split / name / f'{i}.jpg'
                part.resize((width, height), Image.Resampling.LANCZOS).save(file, quality=90)
    return root


class Files(Dataset):
    """Files decoded by `read` and augmented by `transform`, as in torchvision's and timm's examples."""

    def __init__(self, files: list[Path], read: Callable, transform: Callable):
        self.files, self.read, self.transform = files, read, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple:
        return self.transform(self.read(self.files[i])), 0


def pil(file: Path) -> Image.Image:
    """Decode with Pillow."""
    with Image.open(file) as im:
        return im.convert('RGB')


def tensor(file: Path) -> torch.Tensor:
    """Decode with torchvision."""
    return decode_jpeg(read_file(str(file)), ImageReadMode.RGB)


def torchvision_transform(*first: Callable) -> v2.Compose:
    """torchvision's transforms; `first` come before the conversion to float."""
    crop = v2.RandomResizedCrop(SIDE, SCALE, antialias=True)
    return v2.Compose(
        [crop, v2.RandomHorizontalFlip(), *first, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )


def timm_transform() -> Callable:
    """timm's transforms for training, without its changes of colour."""
    return create_transform(SIDE, True, scale=SCALE, color_jitter=None, interpolation='bilinear')


def fastai_loaders(files: list[Path], bs: int, workers: int, *augment: Callable) -> DataLoaders:
    """fastai's own: a random crop of each image, `augment` on batches."""
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_y=parent_label,
        splitter=IndexSplitter([0]),
        item_tfms=RandomResizedCrop(SIDE, min_scale=SCALE[0]),
        batch_tfms=[*augment, Normalize.from_stats(MEAN, STD)],
    )
    return block.dataloaders(files, bs=bs, num_workers=workers)


def all_of(batches: Iterable) -> int:
    """Load all `batches`, and return their number of images."""
    return sum(len(x) for x, _ in batches)


def from_scratch(make: Callable, kept: Path) -> int:
    """Make the loaders without the results of an earlier start, and run an epoch."""
    rmtree(kept, ignore_errors=True)
    return all_of(make().train)


def print_table(size: str, speeds: dict[str, list[float]], cores: int, repeats: int) -> None:
    """Print the median images/s of each implementation, and its ratios to two of the others."""
    print(f'\n{size} JPEGs to {SIDE}x{SIDE}, {cores} core(s), {repeats} rounds, torch {torch.__version__}\n')
    print('| implementation | images/s | x torchvision | x fastai, aug_transforms |\n|---|--:|--:|--:|')
    mids = {name: median(speed) for name, speed in speeds.items()}
    for name, mid in mids.items():
        print(f'| {name} | {mid:,.0f} | {mid / mids[PEER]:.2f} | {mid / mids["fastai, aug_transforms"]:.1f} |')


@call_parse
def main(
    cores: int = 1,  # processor cores to use; with several, each loader has as many processes
    n: int = 400,  # photographs of 500x375; of 3000x2000 a fifth, but two batches
    bs: int = 32,  # images per batch
    repeats: int = 5,  # rounds; each times every implementation once
):
    """Time all implementations, and print a table for each size of photographs."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    keep_freed_memory()  # as in training
    torch.set_num_threads(cores)
    cv2.setNumThreads(cores)
    defaults.cpus, workers = cores, 0 if cores == 1 else cores
    with TemporaryDirectory() as tmp:
        os.environ['FASTAI_HOME'] = tmp
        fastai_cfg.cache_clear()
        for width, height, fewer in SIZES:
            root = write_photographs(Path(tmp, f'{width}x{height}'), width, height, max(n // fewer, 2 * bs))
            files = sorted(root.glob('train/*/*.jpg'))
            make = partial(get_dls, root, RECIPE, bs=bs, size=SIDE, num_workers=workers)
            load = partial(DataLoader, batch_size=bs, shuffle=True, num_workers=workers)
            ways = {
                'torchvision v2, Pillow': load(Files(files, pil, torchvision_transform(v2.ToImage()))),
                PEER: load(Files(files, tensor, torchvision_transform())),
                "timm's create_transform": load(Files(files, pil, timm_transform())),
                'fastai': fastai_loaders(files, bs, workers).train,
                'fastai, aug_transforms': fastai_loaders(files, bs, workers, *aug_transforms()).train,
            }
            with redirect_stdout(StringIO()):
                make()
                share, examine.SHARE = examine.SHARE, 0.0
                uncached = make().train
                examine.SHARE = share
                ways |= {
                    'ours before: pixels=direct': make(pixels='direct').train,
                    'ours without room for a cache': uncached,
                    'ours, first epoch with all checks': partial(from_scratch, make, Path(tmp, 'data/pixels')),
                    'ours, later epochs': make().train,
                }
            speeds = {name: [] for name in ways}
            for _ in range(repeats):
                for name, way in ways.items():
                    with redirect_stdout(StringIO()):
                        start = perf_counter()
                        taken = way() if callable(way) else all_of(way)
                        speeds[name].append(taken / (perf_counter() - start))
            print_table(f'{width}x{height}', speeds, cores, repeats)
