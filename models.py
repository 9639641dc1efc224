"""Networks for small images."""

from torch import nn
from torchvision.models import resnet18


def cifar_resnet18(n_out: int = 10, last_stride: int = 2, dropout: float = 0.0) -> nn.Module:
    """Torchvision's ResNet-18 for images of about 32 pixels: a 3x3 stem with stride 1 and no max-pool.

    He et al. 2015 (arXiv 1512.03385) with the widths of its ImageNet version: 11,173,962 parameters for 10 classes.
    On N x 3 x 32 x 32 the four stages give 32, 16, 8 and 4 pixels; `last_stride=1` keeps the last at 8.
    `dropout` is the probability of a dropout after each of the 17 activations.
    """
    model = resnet18(num_classes=n_out)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode='fan_out', nonlinearity='relu')  # as resnet18 does its own
    model.maxpool = nn.Identity()
    first = model.layer4[0]
    first.conv1.stride = first.downsample[0].stride = (last_stride, last_stride)
    if dropout:
        for module in (m for m in list(model.modules()) if hasattr(m, 'relu')):
            module.relu = nn.Sequential(module.relu, nn.Dropout(dropout))
    return model
