"""Torchvision's ResNets for small images."""

from torch import nn
from torchvision.models import ResNet, resnet18


def cifar_resnet18(n_out: int = 10, last_stride: int = 2, dropout: float = 0.0) -> nn.Module:
    """Torchvision's ResNet-18 for images of about 32 pixels: a 3x3 stem with stride 1 and no max-pool.

    He et al. 2015 (arXiv 1512.03385) with the widths of its ImageNet version: 11,173,962 parameters for 10 classes.
    For N x 3 x 32 x 32 inputs the four stages' outputs are 32, 16, 8 and 4 pixels wide; `last_stride=1` keeps the last
    at 8. `dropout` is the dropout probability after each of the 17 activations.
    """
    model = resnet18(num_classes=n_out)
    set_small_stem(model)
    set_last_stride(model, last_stride)
    add_dropout(model, dropout)
    return model


def set_small_stem(model: ResNet) -> None:
    """Replace the stem: a 3x3 convolution with stride 1, not 7x7 with stride 2, and no max-pool; usual for CIFAR-10."""
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode='fan_out', nonlinearity='relu')  # torchvision's initialisation
    model.maxpool = nn.Identity()


def set_last_stride(model: ResNet, stride: int) -> None:
    """Set the stride of a ResNet's last stage: 2 halves height and width, 1 keeps them."""
    first = model.layer4[0]
    for conv in first.conv1, first.conv2, first.downsample[0]:
        if conv.stride == (2, 2):
            conv.stride = stride, stride


def add_dropout(model: ResNet, p: float) -> None:
    """Add dropout with probability `p` after each activation; nothing is added if `p` is 0."""
    for module in [m for m in model.modules() if hasattr(m, 'relu')] if p else []:
        module.relu = nn.Sequential(module.relu, nn.Dropout(p))
