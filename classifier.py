"""A trained network from pixels to probabilities, in plain PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipes import Recipe


class Classifier(nn.Module):
    """`model`, trained by `recipe`, from uint8 RGB images, N x 3 x H x W, to probabilities, N x classes, float32.

    With what else belongs to the recipe's predictions: its mean and standard deviation, and its views of an image.
    """

    def __init__(self, model: nn.Module, recipe: Recipe):
        super().__init__()
        self.model, self.views = model, recipe.views
        self.register_buffer('mean', torch.tensor(recipe.mean).view(3, 1, 1))
        self.register_buffer('std', torch.tensor(recipe.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images of the size that `model` was trained on."""
        x = (images.float() / 255 - self.mean) / self.std
        logits = self.model(x)
        if self.views:
            logits = mean_over_views(self.model, x, logits, **self.views)
        return logits.softmax(1)


def mean_over_views(model: nn.Module, x: Tensor, pred: Tensor, flip: bool, shift: bool) -> Tensor:
    """The mean of `pred`, the model's output for the images `x` (N x C x H x W), and of that for their mirror images.

    Mirrored only with `flip`. With `shift` half of the weight is that of the same moved by a pixel, up and left and
    down and right: Jordan 2024, arXiv 2404.00498, section 3.6.
    """

    def look(x: Tensor) -> Tensor:
        return model(x).to(pred.dtype)  # where autocast makes it of 16 bits, a mean of them would have ties

    def looks(x: Tensor, pred: Tensor) -> Tensor:
        return (pred + look(x.flip(3))) / 2 if flip else pred

    if not shift:
        return looks(x, pred)
    h, w = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), 'reflect')
    moved = [looks(v, look(v)) for v in (padded[..., :h, :w], padded[..., 2:, 2:])]
    return (looks(x, pred) + sum(moved) / 2) / 2
