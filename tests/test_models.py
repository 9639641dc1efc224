import pytest
import torch
from torch import nn

from models import cifar_resnet18


def n_parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_has_the_course_projects_parameters():
    assert n_parameters(cifar_resnet18()) == 11_173_962
    assert n_parameters(cifar_resnet18(last_stride=1, dropout=0.1)) == 11_173_962


def test_head_follows_the_number_of_classes():
    # each class costs the 512 weights and the bias of its logit
    assert n_parameters(cifar_resnet18(n_out=13)) - n_parameters(cifar_resnet18(n_out=10)) == 3 * 513


@pytest.mark.parametrize(('last_stride', 'sides'), [(2, [32, 16, 8, 4]), (1, [32, 16, 8, 8])])
def test_stages_keep_the_resolution_of_small_images(last_stride, sides):
    model, seen = cifar_resnet18(last_stride=last_stride).eval(), []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert seen == sides


def test_drops_out_after_each_of_the_17_activations_and_only_in_training():
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
