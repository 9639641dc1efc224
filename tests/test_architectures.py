import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from architectures import check_arch, get_model, with_network
from errors import UserError
from models import SpeedNet, cifar_resnet18
from recipes import HOUR, PLATEAU, REFERENCE, SPEEDRUN


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


@pytest.mark.parametrize(('arch', 'said'), [
    ('resnet81', '; did you mean resnet18'),
    ('ResNet50', '; did you mean resnet50'),
    ('efficientnetb0', '; did you mean efficientnet_b0'),
    ('fcn_resnet50', '; did you mean resnet50'),  # which segments
    ('zzz', ', it has resnet18, convnext_tiny and others'),
])  # fmt: skip
def test_a_wrong_name_is_told_what_it_may_be_meant_for(arch, said):
    assert refusal(check_arch, arch).startswith(f'--arch {arch}: torchvision has no classifier of that name{said}')


def test_recipes_choose_the_network():
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
def test_small_images_get_the_network_that_was_there_before(recipe):
    torch.manual_seed(0)
    expected, state = cifar_resnet18(7, recipe.last_stride, recipe.dropout), torch.get_rng_state()
    torch.manual_seed(0)
    model = get_model(recipe, 7, (64, 64))
    assert repr(model) == repr(expected)
    assert equal(model, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_larger_images_get_torchvisions_own():
    torch.manual_seed(0)
    expected = models.resnet18(num_classes=7)
    torch.manual_seed(0)
    model = get_model(PLATEAU, 7, (65, 64))
    assert repr(model) == repr(expected)
    assert equal(model, expected)


@pytest.mark.parametrize(('last_stride', 'sides'), [(2, [32, 16, 8, 4]), (1, [32, 16, 8, 8])])
def test_a_resnet_of_bottlenecks_has_the_small_stem_too(last_stride, sides):
    model, seen = get_model(named('resnet50', last_stride=last_stride), 3, (32, 32)).eval(), []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda module, args, out: seen.append(out.shape[-1]))
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert seen == sides


def test_a_recipe_with_dropout_is_for_resnets():
    assert (
        sum(isinstance(m, nn.Dropout) for m in get_model(replace(REFERENCE, arch='resnet50'), 3, (32, 32)).modules())
        == 17
    )
    message = refusal(get_model, replace(REFERENCE, arch='squeezenet1_1'), 3, (64, 64))
    assert message == '--arch squeezenet1_1: the recipe has dropout after each ReLU of a ResNet, take another one'


# --- sizes


@pytest.mark.parametrize(('arch', 'size', 'fits'), [
    ('alexnet', 32, 63), ('densenet121', 16, 29), ('inception_v3', 74, 75), ('squeezenet1_1', 16, 17),
])  # fmt: skip
def test_images_too_small_for_it_end_in_one_line_with_a_size_that_fits(arch, size, fits):
    message = refusal(get_model, named(arch), 3, (size, size))
    assert message.startswith(f"--arch {arch} can't take images of {size}x{size} (")
    assert message.endswith(f': it takes --size {fits}')
    assert get_model(named(arch), 3, (fits, fits)).training


def test_a_vision_transformer_takes_one_size_alone():
    message = refusal(get_model, named('vit_b_32'), 3, (64, 64))
    assert message == (
        "--arch vit_b_32 can't take images of 64x64 (Wrong image height! Expected 224 but got 64!): it takes --size 224"
    )


@pytest.mark.parametrize('arch', ['googlenet', 'inception_v3', 'mobilenet_v3_small', 'regnet_x_400mf', 'convnext_tiny'])
@pytest.mark.filterwarnings('error')
def test_any_puts_out_one_tensor_and_takes_a_batch(arch):
    model = get_model(named(arch), 3, (80, 80))
    assert model(torch.randn(2, 3, 80, 80)).shape == (2, 3)  # in training, where the Inceptions have two heads more


# --- pretrained weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch's cache, which is empty, on a machine without a network."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    folder = tmp_path / 'hub/checkpoints'
    folder.mkdir(parents=True)
    return folder


def published(hub, arch, model):
    """The file that torchvision would have downloaded, with the weights of `model`."""
    file = hub / models.get_model_weights(arch).DEFAULT.url.rpartition('/')[2]
    torch.save(model.state_dict(), file)
    return file


def test_statistics_are_those_of_the_weights():
    recipe = with_network(PLATEAU, 'resnet50', pretrained=True)
    assert recipe == named('resnet50', pretrained=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert with_network(PLATEAU, 'efficientnet_v2_l', pretrained=True).mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(('arch', 'head'), [
    ('resnet18', 'fc'), ('squeezenet1_1', 'classifier.1'), ('densenet121', 'classifier'), ('googlenet', 'fc'),
    ('inception_v3', 'fc'),
])  # fmt: skip
@pytest.mark.filterwarnings('error:The default weight initialization')
def test_all_weights_but_the_heads_are_the_published_ones(hub, arch, head):
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
    # the architecture is the same without them: a run's own weights fit in
    again = get_model(with_network(PLATEAU, arch, pretrained=True), 3, (80, 80), load=False).eval()
    again.load_state_dict(weights)
    x = torch.randn(2, 3, 80, 80)
    assert torch.equal(again(x), model(x))


def test_weights_that_cannot_be_had_end_in_one_line_that_names_the_place(hub):
    message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert message.startswith(
        f'--pretrained: {hub}/resnet18-f37072fd.pth is not there, and https://download.pytorch.org/'
    )
    assert message.endswith('get it to that place, or train without')
    assert list(hub.iterdir()) == []


def test_a_damaged_file_is_named(hub):
    file = published(hub, 'resnet18', models.resnet18())
    whole = file.read_bytes()
    for content in b'', whole[:1000], whole[:-1000], b'<html>404</html>':
        file.write_bytes(content)
        message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
        assert message.startswith(f'--pretrained: {file} does not hold the weights of resnet18 (')
    published(hub, 'resnet18', nn.Linear(2, 3))
    message = refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert message.endswith('): delete it')


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_no_pickle_is_run(hub, tmp_path):
    file = published(hub, 'resnet18', models.resnet18())
    file.write_bytes(pickle.dumps(Evil(tmp_path / 'ran')))
    refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    torch.save({'fc.bias': Evil(tmp_path / 'ran')}, file)
    refusal(get_model, with_network(PLATEAU, pretrained=True), 3, (224, 224))
    assert not (tmp_path / 'ran').exists()
