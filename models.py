"""Networks for small images."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18


def cifar_resnet18(n_out: int = 10, last_stride: int = 2, dropout: float = 0.0) -> nn.Module:
    """Torchvision's ResNet-18 for images of about 32 pixels: a 3x3 stem with stride 1 and no max-pool.

    He et al. 2015 (arXiv 1512.03385) with the widths of its ImageNet version: 11,173,962 parameters for 10 classes.
    On N x 3 x 32 x 32 the four stages give 32, 16, 8 and 4 pixels; `last_stride=1` keeps the last at 8.
    `dropout` is the probability of a dropout after each of the 17 activations.
    """
    model = resnet18(num_classes=n_out)
    set_small_stem(model)
    set_last_stride(model, last_stride)
    add_dropout(model, dropout)
    return model


def set_small_stem(model: ResNet) -> None:
    """A 3x3 convolution with stride 1 instead of 7x7 with stride 2, and no max-pool, as ResNets have for CIFAR-10."""
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode='fan_out', nonlinearity='relu')  # as torchvision does its own
    model.maxpool = nn.Identity()


def set_last_stride(model: ResNet, stride: int) -> None:
    """How much the last stage of a ResNet halves: with a `stride` of 1 not at all."""
    first = model.layer4[0]
    for conv in first.conv1, first.conv2, first.downsample[0]:
        if conv.stride == (2, 2):
            conv.stride = stride, stride


def add_dropout(model: ResNet, p: float) -> None:
    """Dropout with probability `p` after each activation; none if that's 0."""
    for module in [m for m in model.modules() if hasattr(m, 'relu')] if p else []:
        module.relu = nn.Sequential(module.relu, nn.Dropout(p))


# The channels of SpeedNet's three blocks.
SPEEDNETS = {
    'speednet': (64, 256, 256),  # airbench94's
    'speednet_wide': (64, 320, 384),  # 3.6 million parameters
    'speednet_wider': (64, 384, 512),  # 5.7 million
}


class SpeedNet(nn.Sequential):
    """A net that learns CIFAR-10 in a few epochs: Jordan 2024, arXiv 2404.00498, airbench94, of 2.0 million parameters.

    A first layer of 2x2 filters that whitens the images (fixed, see `whiten`), then three blocks of two 3x3
    convolutions each, which begin as identities as far as they can, and which halve the height and width. On
    N x 3 x 32 x 32 they give 15, 7 and 3 pixels; any size from 15 will do, as the last pool is global. `widths` are
    their channels.
    """

    def __init__(self, n_out: int = 10, widths: Sequence[int] = SPEEDNETS['speednet']):
        filters = 24
        blocks = [
            (f'layer{i}', _block(*ends)) for i, ends in enumerate(zip((filters, *widths), widths, strict=False), 1)
        ]
        layers = [
            ('stem', nn.Sequential(OrderedDict(whitening=nn.Conv2d(3, filters, 2), act=nn.GELU()))),
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
        """Make the first layer give uncorrelated numbers of variance 1 for images such as `x`, N x 3 x H x W.

        Its filters are the eigenvectors of the covariance of 2x2 patches, each over the root of its eigenvalue, and
        the same negated.
        """
        patches = x.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).double()
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + 5e-4).sqrt()).T.reshape(12, 3, 2, 2)  # the paper's constant, against noise
        self.stem.whitening.weight.copy_(torch.cat([filters, -filters]))


class _Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x


def _block(n_in: int, n_out: int) -> nn.Sequential:
    """Two convolutions, each with a BatchNorm without weights that follows the batches closely, and a pool between."""
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
