import cv2
import numpy as np
import pytest
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import IndexSplitter, parent_label
from fastai.vision.data import ImageBlock
from PIL import Image
from tiny import TINY, tiny_dls

from data.seeded_loader import batch_at
from interpret.report.photograph import read_photograph


@pytest.fixture
def photographs(tmp_path):
    """Two classes of three smooth photographs of 400x300, at 96 pixels the network's input."""
    x, y = np.meshgrid(np.linspace(0, 1, 400), np.linspace(0, 1, 300))
    for i, split, name in [(0, 'train', 'a'), (1, 'train', 'b'), (2, 'train', 'a'), (3, 'train', 'b'), (4, 'test', 'a'),
                           (5, 'test', 'b')]:  # fmt: skip
        (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
        pixels = np.stack([255 * x, 255 * y, 127 + 127 * np.sin(9 * x * y + i)], -1).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / split / name / f'{i}.png')
    return tmp_path


def test_the_part_is_what_the_network_gets(photographs):
    dls = tiny_dls(photographs, bs=2, valid='test', size=96)
    whole, (x, y, w, h) = read_photograph(dls[2], 1, side=384)
    assert whole.size == (384, 288)
    corners = round(384 * x), round(288 * y), round(384 * (x + w)), round(288 * (y + h))
    seen = cv2.resize(np.asarray(whole.crop(corners)), (96, 96), interpolation=cv2.INTER_AREA)
    given = batch_at(dls[2], [1])[0][0].permute(1, 2, 0).numpy() * TINY.std + TINY.mean
    error = np.abs(seen - 255 * given)
    assert error.mean() < 1  # of 255; the part has the network's pixels, shifted by less than one
    assert error.max() < 6


def test_an_image_smaller_than_asked_for_keeps_its_size(photographs):
    dls = tiny_dls(photographs, bs=2, valid='test', size=96)
    assert read_photograph(dls[2], 0, side=1000)[0].size == (400, 300)


def test_other_loaders_have_no_photographs(photographs):
    block = DataBlock((ImageBlock, CategoryBlock), get_y=parent_label, splitter=IndexSplitter([0]))
    dls = block.dataloaders(sorted(photographs.rglob('*.png')), bs=2, num_workers=0)
    assert read_photograph(dls.valid, 0, side=384) is None
