import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from config.recipes import REFERENCE
from models.classifier import Classifier


def test_pixels_become_probabilities():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # the logits are each channel's mean
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 6)
    # (p / 255 - 0.5) / 0.5
    expected = torch.tensor([-1, 1, -0.6]).exp() / torch.tensor([-1, 1, -0.6]).exp().sum()
    got = Classifier(model, REFERENCE)(images)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected.expand(2, 3))


def test_the_recipes_views_are_averaged():
    model = nn.Flatten()
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8).expand(1, 3, 1, 2)
    probabilities = Classifier(model, replace(REFERENCE, test_views=True))(images)  # flips, no shifts
    torch.testing.assert_close(probabilities, torch.full((1, 6), 1 / 6))  # the mean with its mirror image is grey
    assert Classifier(model, REFERENCE)(images).std() > 0.1


def test_needs_no_fastai():
    code = 'import sys; sys.modules["fastai"] = None; import models.classifier, config.recipes'
    subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[2], check=True)
