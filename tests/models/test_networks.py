import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.resnet import cifar_resnet18
from models.speednet import SpeedNet


def n_parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_has_as_many_parameters_as_the_course_project():
    assert n_parameters(cifar_resnet18()) == 11_173_962
    assert n_parameters(cifar_resnet18(last_stride=1, dropout=0.1)) == 11_173_962


def test_head_follows_the_number_of_classes():
    # each class adds 512 weights and a bias
    assert n_parameters(cifar_resnet18(n_out=13)) - n_parameters(cifar_resnet18(n_out=10)) == 3 * 513


def test_dropout_follows_each_of_the_17_activations_and_only_in_training():
    model, runs = cifar_resnet18(dropout=0.1), []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            assert module.p == 0.1
            module.register_forward_hook(lambda module, args, out: runs.append(module.training))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        assert runs == 34 * [True]
        model.eval()
        assert torch.equal(model(x), model(x))


def test_speednet_has_as_many_parameters_as_the_paper():
    # a BatchNorm has a weight and a bias for each channel, and each width has two BatchNorms
    whitening, head = 3 * 24 * 4 + 24, 256 * 10
    convs = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    norms = 2 * 2 * (64 + 256 + 256)
    assert n_parameters(SpeedNet()) == whitening + convs + norms + head == 1_972_792


@pytest.mark.parametrize(('side', 'sides'), [(32, [31, 15, 7, 3]), (20, [19, 9, 4, 2]), (16, [15, 7, 3, 1])])
def test_speednet_takes_any_size(side, sides):
    model, seen = SpeedNet(7).eval(), []
    for layer in (model.stem, model.layer1, model.layer2, model.layer3):
        layer.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    with torch.no_grad():
        assert model(torch.randn(2, 3, side, side)).shape == (2, 7)
    assert seen == sides


def test_whitened_patches_are_uncorrelated_with_variance_one():
    x = 10 * F.avg_pool2d(torch.randn(64, 3, 20, 20), 3, stride=1) + torch.randn(64, 1, 18, 18)  # neighbours alike
    model = SpeedNet()
    model.whiten(x)
    with torch.no_grad():
        out = model.stem.whitening(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(out[:12], -out[12:])
    torch.testing.assert_close(out[:12] @ out[:12].T / out.shape[1], torch.eye(12), atol=0.02, rtol=0)
    assert not model.stem.whitening.weight.requires_grad


def test_blocks_begin_as_identities():
    block, x = SpeedNet().layer1, torch.randn(2, 24, 8, 8)
    torch.testing.assert_close(block.conv1(x)[:, :24], x)
    y = torch.randn(2, 64, 4, 4)
    torch.testing.assert_close(block.conv2(y), y)
