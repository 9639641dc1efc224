"""Networks, and faster convolutions on CPUs."""

from models.build import with_network
from models.resnet import cifar_resnet18

__all__ = ['cifar_resnet18', 'with_network']
