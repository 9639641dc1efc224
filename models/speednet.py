"""A network that learns to classify small images in a few epochs."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

# Output channels of SpeedNet's three blocks.
SPEEDNETS = {
    'speednet': (64, 256, 256),  # airbench94's
    'speednet_wide': (64, 320, 384),  # 3.6 million parameters
    'speednet_wider': (64, 384, 512),  # 5.7 million
}


class SpeedNet(nn.Sequential):
    """airbench94, which learns CIFAR-10 in a few epochs: Jordan 2024, arXiv 2404.00498; 2.0 million parameters.

    The first layer has fixed 2x2 filters that whiten the images (see `whiten`). Each of the three blocks has two 3x3
    convolutions, initialised as identities where channels allow, and halves height and width. For N x 3 x 32 x 32
    inputs their outputs are 15, 7 and 3 pixels wide; the last pool is global, so any size from 15 works. `widths` are
    the blocks' output channels.
    """

    def __init__(self, n_out: int = 10, widths: Sequence[int] = SPEEDNETS['speednet']):
        blocks = [(f'layer{i}', _block(*ends)) for i, ends in enumerate(pairwise((24, *widths)), 1)]
        layers = [
            ('stem', nn.Sequential(OrderedDict(whitening=nn.Conv2d(3, 24, 2), act=nn.GELU()))),
            *blocks,
            ('pool', nn.AdaptiveMaxPool2d(1)),
            ('flatten', nn.Flatten()),
            ('head', nn.Linear(widths[-1], n_out, bias=False)),
            ('temperature', _Scale(1 / 9)),
        ]
        super().__init__(OrderedDict(layers))
        self.stem.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.stem.whitening.bias)

    @torch.no_grad()
    def whiten(self, x: Tensor) -> None:
        """Set the first layer so that its outputs for the images `x` (N x 3 x H x W) are uncorrelated with variance 1.

        Its filters are the eigenvectors of the 2x2 patches' covariance, each divided by the square root of its
        eigenvalue, and their negatives.
        """
        patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        # 5e-4 is the paper's constant: it limits amplified noise
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)
        self.stem.whitening.weight.copy_(torch.cat([filters, -filters]))


class _Scale(nn.Module):
    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


def _block(n_in: int, n_out: int) -> nn.Sequential:
    """Two convolutions, each with a BatchNorm (fixed scale, high momentum); the first is followed by a max-pool."""
    layers = OrderedDict(
        conv1=nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        pool=nn.MaxPool2d(2),
        norm1=nn.BatchNorm2d(n_out, momentum=0.4),
        act1=nn.GELU(),
        conv2=nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(n_out, momentum=0.4),
        act2=nn.GELU(),
    )
    for conv in (layers['conv1'], layers['conv2']):
        with torch.no_grad():
            nn.init.dirac_(conv.weight[: conv.in_channels])
    for norm in (layers['norm1'], layers['norm2']):
        norm.weight.requires_grad_(False)
    return nn.Sequential(layers)
