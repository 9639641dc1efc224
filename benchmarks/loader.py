"""Time loading and augmenting training images: this project and others, in one run.

    python benchmarks/loader.py --data cifar10

All implementations run the `plateau` recipe's full augmentation and give normalised float batches on the training
device. Each round times every implementation once, so that other load on the machine affects all of them: ours on a
whole epoch, the slower others on `n` images. Creating the loaders, when ours decodes all images, is timed separately.
"""

import sys
from pathlib import Path
from statistics import median
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))
from config.recipes import PLATEAU
from data.augment import get_transforms
from data.loaders import get_dls
from training.learner import get_learner

# importing `data` first keeps Albumentations from asking the network for updates
# isort: split
import albumentations as A
import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IndexSplitter, Normalize, parent_label
from fastai.torch_core import default_device
from fastai.vision.augment import DisplayedTransform
from fastai.vision.core import PILImage
from fastai.vision.data import ImageBlock
from fastcore.script import call_parse
from PIL import Image
from torch.utils.data import DataLoader, Dataset


class ItemTransform(DisplayedTransform):
    """The transform of fastai's tutorial on Albumentations: https://docs.fast.ai/tutorial.albumentations.html."""

    split_idx, order = 0, 2

    def __init__(self, compose: A.Compose):
        self.compose = compose

    def encodes(self, img: PILImage):
        """Augment one image."""
        return PILImage.create(self.compose(image=np.array(img))['image'])


class Course(Dataset):
    """The course project's dataset: images in memory, as in torchvision's CIFAR10, and a Compose per image."""

    def __init__(self, images: np.ndarray, compose: A.Compose):
        self.images, self.compose = images, compose

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple:
        return self.compose(image=np.array(Image.fromarray(self.images[i])))['image'], 0


def tutorial(files: list[Path], compose: A.Compose, bs: int) -> DataLoaders:
    """fastai's tutorial: files are decoded to PIL images and augmented one by one; batches are normalised."""
    as_images = A.Compose([t for t in compose.transforms if not isinstance(t, A.Normalize | A.ToTensorV2)])
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_y=parent_label,
        splitter=IndexSplitter([0]),
        item_tfms=ItemTransform(as_images),
        batch_tfms=Normalize.from_stats(PLATEAU.mean, PLATEAU.std),
    )
    return block.dataloaders(files, bs=bs, num_workers=0)


def all_of(batches, device: torch.device) -> int:
    """Move all of `batches` to `device`; return the number of images."""
    n = 0
    for x, _ in batches:
        n += len(x.to(device))
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return n


def bare(images: np.ndarray, compose: A.Compose) -> int:
    """Apply only the Compose, to images in memory."""
    for image in images:
        compose(image=image)
    return len(images)


def train_step(dls: DataLoaders) -> float:
    """Seconds of training per image: forward and backward pass and optimiser step."""
    learn = get_learner(dls, path='/nowhere')
    model, (x, y), seconds = learn.model.to(dls.device).train(), dls.one_batch(), []
    opt = torch.optim.SGD(model.parameters(), PLATEAU.lr, PLATEAU.mom, nesterov=True)
    model, on_gpu = model.to(memory_format=torch.channels_last), dls.device.type == 'cuda'
    for _ in range(50 if on_gpu else 5):
        start = perf_counter()
        with torch.autocast(dls.device.type, torch.bfloat16, enabled=on_gpu):
            loss = learn.loss_func(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append((perf_counter() - start) / len(x))
    return min(seconds)


@call_parse
def main(
    data: str = 'cifar10',  # as --data of train_fastai.py
    bs: int = 128,  # images per batch
    n: int = 4000,  # images per round for the slow implementations
    repeats: int = 5,  # rounds; each times every implementation once
):
    """Time all implementations and print a table."""
    start = perf_counter()
    dls = get_dls(data, PLATEAU, bs=bs)
    made, device = perf_counter() - start, default_device()
    files = list(dls.train.dataset.items)[:n]
    images = dls.train.pixels[list(range(len(files)))].transpose(0, 2, 3, 1).copy()
    compose = get_transforms(PLATEAU, images.shape[1:3])[0]
    peer = tutorial(files, compose, bs)
    course = {w: DataLoader(Course(images, compose), bs, shuffle=True, num_workers=w) for w in (0, 2)}
    ways = {
        'a bare Compose loop': lambda: bare(images, compose),
        "fastai's tutorial": lambda: all_of(peer.train, device),
        'the course: torch DataLoader, 0 workers': lambda: all_of(course[0], device),
        'the course: torch DataLoader, 2 workers': lambda: all_of(course[2], device),
        'this project': lambda: all_of(dls.train, device),
    }
    speeds = {name: [] for name in ways}
    all_of(dls.train, device)
    for epoch in range(repeats):
        dls.train.epoch = epoch
        for name, way in ways.items():
            start = perf_counter()
            taken = way()
            speeds[name].append(taken / (perf_counter() - start))

    unit, ours, step = median(speeds['a bare Compose loop']), median(speeds['this project']), train_step(dls)
    where = torch.cuda.get_device_name() if device.type == 'cuda' else f'CPU, {torch.get_num_threads()} threads'
    size = 'x'.join(map(str, images.shape[1:3]))
    print(f'{size} images, batches of {bs}, {repeats} rounds, {where}, torch {torch.__version__}')
    print(f'the loaders were made in {made:.1f} s')
    print('\n| implementation | median images/s | best | x bare | ours is x |\n|---|--:|--:|--:|--:|')
    for name, speed in speeds.items():
        mid = median(speed)
        print(f'| {name} | {mid:,.0f} | {max(speed):,.0f} | {mid / unit:.2f} | {ours / mid:.1f} |')
    print(f'\ntargets: 8 x bare on two cores (ours {ours / unit:.1f}); on a GPU 500,000 images/s')
    print(f'training takes {1 / step:,.0f} images/s; loading is {1 / ours / (step + 1 / ours):.2%} of it (target: 1%)')
