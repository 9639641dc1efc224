import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from config.recipes import HOUR, PLATEAU, REFERENCE, SPEEDRUN
from models.build import check_arch, get_model, with_network
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


class Evil:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


# --- names


@pytest.mark.parametrize(('arch', 'ending'), [
    ('resnet81', '; did you mean resnet18'),
    ('ResNet50', '; did you mean resnet50'),
    ('efficientnetb0', '; did you mean efficientnet_b0'),
    ('fcn_resnet50', '; did you mean resnet50'),  # a segmentation network
    ('zzz', ', it has resnet18, convnext_tiny and others'),
])  # fmt: skip
def test_a_wrong_name_gets_suggestions(arch, ending):
    assert refusal(check_arch, arch).startswith(f'--arch {arch}: torchvision has no classifier of that name{ending}')


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


# --- pretrained weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch's empty cache on a machine without a network."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def published(hub, arch, model):
    """Save the weights of `model` as the file that torchvision would download."""
    file = hub / models.get_model_weights(arch).DEFAULT.url.rpartition('/')[2]
    torch.save(model.state_dict(), file)
    return file


def test_pretrained_networks_use_the_weights_mean_and_std():
    recipe = with_network(PLATEAU, 'resnet50', pretrained=True)
    assert recipe == named('resnet50', pretrained=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert with_network(PLATEAU, 'efficientnet_v2_l', pretrained=True).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(('arch', 'head'), [
    ('resnet18', 'fc'), ('squeezenet1_1', 'classifier.1'), ('densenet121', 'classifier'), ('googlenet', 'fc'),
    ('inception_v3', 'fc'),
])  # fmt: skip
@pytest.mark.filterwarnings('error:The default weight initialization')
def test_all_weights_but_the_heads_are_pretrained(hub, arch, head):
    aux = {'init_weights': True} if arch in ('googlenet', 'inception_v3') else {}
    theirs = models.get_model(arch, **aux)
    published(hub, arch, theirs)
    model = get_model(with_network(PLATEAU, arch, pretrained=True), 3, (80, 80)).eval()
    assert model(torch.zeros(2, 3, 80, 80)).shape == (2, 3)
    weights, expected = model.state_dict(), theirs.state_dict()
    same = {name for name in weights if weights[name].shape == expected[name].shape}
    assert {*weights} - same == {f'{head}.weight', f'{head}.bias'}
    assert all(torch.equal(weights[name], expected[name]) for name in same)
    assert {*expected} - {*weights} == {name for name in expected if name.lower().startswith('aux')}
    # without pretrained weights the architecture is the same, so a run's own weights fit
    again = get_model(with_network(PLATEAU, arch, pretrained=True), 3, (80, 80), load=False).eval()
    again.load_state_dict(weights)
    x = torch.randn(2, 3, 80, 80)
    assert torch.equal(again(x), model(x))


def test_missing_weights_are_refused_with_the_file_to_copy(hub):
    message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert message.startswith(
        f'--pretrained: {hub}/resnet18-f37072fd.pth is missing, and https://download.pytorch.org/'
    )
    assert message.endswith('copy it there, or train without --pretrained')
    assert list(hub.iterdir()) == []


def test_a_damaged_weights_file_is_named(hub):
    file = published(hub, 'resnet18', models.resnet18())
    whole = file.read_bytes()
    for content in b'', whole[:1000], whole[:-1000], b'<html>404</html>':
        file.write_bytes(content)
        message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
        assert message.startswith(f'--pretrained: {file} does not hold the weights of resnet18 (')
    published(hub, 'resnet18', nn.Linear(2, 3))
    message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert message.endswith('): delete it to download it again')


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_no_code_in_a_pickle_is_run(hub, tmp_path):
    file = published(hub, 'resnet18', models.resnet18())
    file.write_bytes(pickle.dumps(Evil(tmp_path / 'ran')))
    refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    torch.save({'fc.bias': Evil(tmp_path / 'ran')}, file)
    refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert not (tmp_path / 'ran').exists()
