"""A trained network from pixels to probabilities, in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config.recipes import Recipe


class Classifier(nn.Module):
    """`model` with its recipe's normalisation, test-time augmentation and softmax.

    Takes uint8 RGB images (N x 3 x H x W) of the size of training; returns float32 probabilities (N x classes).
    """

    def __init__(self, model: nn.Module, recipe: Recipe):
        super().__init__()
        self.model, self.views = model, recipe.views
        self.register_buffer('mean', torch.tensor(recipe.mean).view(3, 1, 1))
        self.register_buffer('std', torch.tensor(recipe.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = (images.float() / 255 - self.mean) / self.std
        logits = self.model(x)
        if self.views:
            logits = mean_over_views(self.model, x, logits, **self.views)
        return logits.softmax(1)


def mean_over_views(model: nn.Module, x: Tensor, pred: Tensor, flip: bool, shift: bool) -> Tensor:
    """Average the model's output over augmented copies of the images `x` (N x C x H x W): test-time augmentation.

    `pred` is the output for `x` itself. `flip` adds the mirror image. `shift` adds two copies moved by one pixel, up
    and left and down and right, which together have half of the weight: Jordan 2024, arXiv 2404.00498, section 3.6.
    """

    def predict(x: Tensor) -> Tensor:
        return model(x).to(pred.dtype)  # under autocast the output has 16 bits, and means of those would have ties

    def with_mirrored(x: Tensor, pred: Tensor) -> Tensor:
        return (pred + predict(x.flip(3))) / 2 if flip else pred

    if not shift:
        return with_mirrored(x, pred)
    h, w = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), 'reflect')
    moved = [with_mirrored(v, predict(v)) for v in (padded[..., :h, :w], padded[..., 2:, 2:])]
    return (with_mirrored(x, pred) + sum(moved) / 2) / 2
