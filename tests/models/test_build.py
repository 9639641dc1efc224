from dataclasses import replace

import pytest
import torch
from torch import nn
from torchvision import models

from config.recipes import HOUR, PLATEAU, REFERENCE, SPEEDRUN
from models.build import get_model, with_network
from models.resnet import cifar_resnet18
from models.speednet import SpeedNet
from runtime.errors import UserError


def named(arch, **changes):
    return replace(PLATEAU, arch=arch, **changes)


def refusal(call, *args, **kwargs):
    with pytest.raises(UserError) as e:
        call(*args, **kwargs)
    assert '\n' not in str(e.value)
    return str(e.value)


def test_speed_recipes_refuse_other_networks():
    for recipe, widths in (SPEEDRUN, [64, 256, 256]), (HOUR, [64, 320, 384]):
        net = get_model(recipe, 10, (32, 32))
        assert isinstance(net, SpeedNet)
        assert [block.conv2.out_channels for block in (net.layer1, net.layer2, net.layer3)] == widths
        assert refusal(with_network, recipe, 'resnet18').startswith('--arch: this recipe is made for its own')
        assert refusal(with_network, recipe, pretrained=True).startswith('--pretrained: this recipe is made for its')
        assert with_network(recipe) == recipe
    assert with_network(PLATEAU, 'vgg11') == named('vgg11')


# --- stems


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('recipe', [PLATEAU, REFERENCE])
def test_small_images_get_cifar_resnet18(recipe):
    torch.manual_seed(0)
    expected, state = cifar_resnet18(7, recipe.last_stride, recipe.dropout), torch.get_rng_state()
    torch.manual_seed(0)
    model = get_model(recipe, 7, (64, 64))
    assert repr(model) == repr(expected)
    assert equal(model, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_larger_images_get_torchvisions_resnet18():
    torch.manual_seed(0)
    expected = models.resnet18(num_classes=7)
    torch.manual_seed(0)
    model = get_model(PLATEAU, 7, (65, 64))
    assert repr(model) == repr(expected)
    assert equal(model, expected)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
@pytest.mark.parametrize(('last_stride', 'sides'), [(2, [32, 16, 8, 4]), (1, [32, 16, 8, 8])])
def test_stages_keep_the_resolution_of_small_images(arch, last_stride, sides):
    model, seen = get_model(named(arch, last_stride=last_stride), 3, (32, 32)).eval(), []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert seen == sides


def test_a_recipe_with_dropout_needs_a_resnet():
    assert (
        sum(isinstance(m, nn.Dropout) for m in get_model(replace(REFERENCE, arch='resnet50'), 3, (32, 32)).modules())
        == 17
    )
    message = refusal(get_model, replace(REFERENCE, arch='squeezenet1_1'), 3, (64, 64))
    assert message == '--arch squeezenet1_1: the recipe adds dropout to a ResNet; choose a ResNet or another recipe'


# --- sizes


@pytest.mark.parametrize(('arch', 'size', 'fits'), [
    ('alexnet', 32, 63), ('densenet121', 16, 29), ('inception_v3', 74, 75), ('squeezenet1_1', 16, 17),
])  # fmt: skip
def test_too_small_images_are_refused_with_a_size_that_works(arch, size, fits):
    message = refusal(get_model, named(arch), 3, (size, size))
    assert message.startswith(f"--arch {arch} can't take images of {size}x{size} (")
    assert message.endswith(f': use --size {fits}')
    assert get_model(named(arch), 3, (fits, fits)).training


def test_a_vision_transformer_takes_only_its_own_size():
    message = refusal(get_model, named('vit_b_32'), 3, (64, 64))
    assert message == (
        "--arch vit_b_32 can't take images of 64x64 (Wrong image height! Expected 224 but got 64!): use --size 224"
    )


@pytest.mark.parametrize('arch', ['googlenet', 'inception_v3', 'mobilenet_v3_small', 'regnet_x_400mf', 'convnext_tiny'])
@pytest.mark.filterwarnings('error')
def test_every_network_returns_one_tensor(arch):
    model = get_model(named(arch), 3, (80, 80))
    assert model(torch.randn(2, 3, 80, 80)).shape == (2, 3)  # in training mode, Inceptions have auxiliary outputs
