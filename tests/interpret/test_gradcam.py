import gc
import random
from collections import Counter

import pytest
import torch
from captum.attr import LayerGradCam
from fastai.torch_core import TensorCategory, TensorImage
from fastai.vision.learner import create_vision_model
from torch import nn
from torchvision.models import convnext_tiny, get_model, mobilenet_v3_small, resnet18, vgg11_bn

from interpret.gradcam import grad_cam
from interpret.hooks import NoMaps, default_layers
from models.backbones import create
from models.resnet import cifar_resnet18


def two_filters(inplace=False):
    """2x2 mean -> two 1x1 filters (2 and -1) -> ReLU -> linear layer with two classes, for 4x4 images."""
    net = nn.Sequential(
        nn.AvgPool2d(2), nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace), nn.Flatten(), nn.Linear(8, 2, bias=False)
    )
    net[1].weight.data = torch.tensor([2.0, -1]).view(2, 1, 1, 1)
    #                                  filter 0      filter 1
    net[4].weight.data = torch.tensor([[1.0, 2, 3, 4, -1, -1, -1, -5], [-1.0, 0, 0, -3, 2, 2, 0, 4]])
    return net


def pixels(*images):
    """2x2 images as N x 1 x 4 x 4, each pixel twice as wide and high."""
    return torch.tensor(images).unsqueeze(1).repeat_interleave(2, -1).repeat_interleave(2, -2)


X = pixels([[1.0, 2], [3, -4]], [[1.0, 2], [3, 4]])


class Small(nn.Module):
    """Layers whose state a call could change: batch norm, dropout, in-place layers, a layer that returns its input."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.5)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, x):
        return self.head(self.block(self.drop(self.stem(x))))


def small_vgg(**kwargs):
    """vgg11_bn without the 120 million parameters of its classifier."""
    with torch.device('meta'):
        model = vgg11_bn(**kwargs)
    model.features.to_empty(device='cpu')
    for layer in model.features:
        getattr(layer, 'reset_parameters', lambda: None)()
    model.classifier = nn.Linear(512 * 7 * 7, 10)
    return model


SMALL_LAYERS = ['stem.0', 'stem.1', 'stem.2', 'drop', 'block.0', 'block']


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def expect_same(maps, others, **tolerance):
    assert list(maps) == list(others)
    for name in maps:
        assert others[name].any(), f'{name}: a map of zeros proves nothing'
        torch.testing.assert_close(maps[name], others[name], msg=lambda m, name=name: f'{name}: {m}', **tolerance)


# --- values


@pytest.mark.parametrize('inplace', [False, True])
def test_values_by_hand(inplace):
    # Image 0: filters [2 4 6 -8], [-1 -2 -3 4]; after ReLU [2 4 6 0], [0 0 0 4]; logits 8 and 14.
    # After the ReLU the mean gradients are the means of the linear weights: class 0: 2.5, -2; class 1: -1, 2.
    # Before the ReLU, zeroed positions have gradient 0: class 0: (1+2+3)/4 = 1.5, -5/4; class 1: -1/4, 4/4.
    # Image 1: filters [2 4 6 8], [-1 -2 -3 -4]; after ReLU the second is 0.
    # Before the ReLU, class 0: 10/4, 0; class 1: -4/4, 0.
    maps = grad_cam(two_filters(inplace), X, torch.tensor([[0, 1], [0, 1]]), ['2', '1'], raw=True)
    assert list(maps) == ['2', '1']
    assert maps['2'].tolist() == [
        [[[5, 10], [15, 0]], [[0, 0], [0, 8]]],  # 2.5 f0 - 2 f1 = 5 10 15 -8;  -f0 + 2 f1 = -2 -4 -6 8
        [[[5, 10], [15, 20]], [[0, 0], [0, 0]]],  # 2.5 f0;                      -f0
    ]
    assert maps['1'].tolist() == [
        [[[4.25, 8.5], [12.75, 0]], [[0, 0], [0, 6]]],  # 1.5 f0 - 1.25 f1;  -.25 f0 + f1 = -1.5 -3 -4.5 6
        [[[5, 10], [15, 20]], [[0, 0], [0, 0]]],  # 2.5 f0;  -f0
    ]


def test_maps_of_the_image_by_hand():
    # Bilinear from 2 to 4 samples at 0, 1/4, 3/4, 1 of the way. Image 0: [5 10; 15 0], from 0 to 15.
    # Image 1: [5 10; 15 20] is the plane 5 + 5 c + 10 r, from 5 to 20: (c + 2 r) / 3.
    maps = grad_cam(two_filters(), X, 0, ['2'])['2']
    rows = torch.tensor([[4, 5, 7, 8], [6, 6, 6, 6], [10, 8, 4, 2], [12, 9, 3, 0]]) / 12
    plane = torch.tensor([[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]) / 12
    torch.testing.assert_close(maps, torch.stack([rows, plane]))


def test_a_constant_map_is_zero():
    x = torch.linspace(0.01, 3, 50).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)  # interpolation rounds some values
    assert not grad_cam(two_filters(), x, 0, ['2'])['2'].any()
    assert not grad_cam(two_filters(), -x, 0, ['2'])['2'].any()  # ReLU removes negative evidence


def test_nan_is_not_hidden():
    assert grad_cam(two_filters(), X * torch.nan, 0, ['2'])['2'].isnan().all()


def mappable(model, x):
    """Names of all layers that have a map: 4-d, larger than 1x1 and run once."""
    runs, names = Counter(), []

    def note(name):
        def hook(module, args, out):
            runs[name] += 1
            if out.ndim == 4 and out.shape[-2:] != (1, 1):
                names.append(name)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules()]
    with torch.no_grad():
        model(x[:1])
    for handle in handles:
        handle.remove()
    return [name for name in names if runs[name] == 1]


def assert_equals_captum(model, x, targets, maps):
    assert any(cam.any() for cam in maps.values()), 'maps of zeros prove nothing'
    for name, cam in maps.items():
        peer = LayerGradCam(model, model.get_submodule(name)).attribute(x, targets, relu_attributions=True)
        peer = peer.squeeze(1).detach()
        torch.testing.assert_close(
            cam, peer, rtol=1e-4, atol=1e-5 * peer.max().item(), msg=lambda m, name=name: f'{name}: {m}'
        )


@pytest.mark.parametrize('arch', [resnet18, small_vgg, mobilenet_v3_small, convnext_tiny])
def test_equals_captum(arch):
    torch.manual_seed(0)
    model = arch(weights=None, num_classes=10).eval()
    x, targets = torch.randn(2, 3, 64, 64), torch.tensor([3, 7])
    names = mappable(model, x)
    random.Random(0).shuffle(names)
    names = list(dict.fromkeys([*default_layers(model, x), *names[:10]]))
    maps = grad_cam(model, x, targets, reversed(names), raw=True)

    assert list(maps) == names[::-1]
    assert sum(bool(cam.any()) for cam in maps.values()) > len(names) / 2
    assert_equals_captum(model, x, targets, maps)


def test_a_layer_that_returns_its_input_has_its_own_map():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.same, self.head = nn.Conv2d(1, 2, 1), nn.Identity(), two_filters()[3:]

        def forward(self, x):
            h = self.conv(x)
            return self.head(self.same(h) + 3 * h)

    model, x = Skip(), torch.rand(1, 1, 2, 2)
    model.conv.weight.data, model.conv.bias.data = torch.ones(2, 1, 1, 1), torch.zeros(2)
    maps = grad_cam(model, x, 0, ['conv', 'same'], raw=True)
    torch.testing.assert_close(maps['same'][0], (2.5 - 2) * x[0, 0])
    torch.testing.assert_close(maps['conv'][0], 4 * (2.5 - 2) * x[0, 0])


# --- targets


def test_several_targets_equal_one_at_a_time(small, x):
    targets = torch.tensor([[0, 4], [1, 3], [2, 2], [3, 0]])
    both = grad_cam(small, x, targets, SMALL_LAYERS)
    assert both['stem.0'].shape == (4, 2, 8, 8)
    for k in range(2):
        one = grad_cam(small, x, targets[:, k], SMALL_LAYERS)
        assert one['stem.0'].shape == (4, 8, 8)
        expect_same({name: cam[:, k] for name, cam in both.items()}, one)


def test_default_target_is_the_prediction(small, x):
    predicted = small.eval()(x).argmax(1)
    expect_same(grad_cam(small, x), grad_cam(small, x, predicted))


def test_one_class_for_all(small, x):
    expect_same(grad_cam(small, x, 2), grad_cam(small, x, torch.full((4,), 2)))


def test_one_forward_pass_and_one_backward_pass_per_target(small, x, monkeypatch):
    forwards, backwards, grad = [], [], torch.autograd.grad
    small.register_forward_hook(lambda *_: forwards.append(1))
    monkeypatch.setattr(torch.autograd, 'grad', lambda *args, **kw: backwards.append(1) or grad(*args, **kw))
    grad_cam(small, x, layers=SMALL_LAYERS)
    assert (len(forwards), len(backwards)) == (1, 1)
    grad_cam(small, x, torch.zeros(4, 3, dtype=torch.long), SMALL_LAYERS)
    assert (len(forwards), len(backwards)) == (2, 4)


# --- layers


def test_names_and_modules_in_any_order(small, x):
    maps = grad_cam(small, x, 1, ['block', small.stem[0], 'stem.2', small.block[1]])
    expect_same(maps, grad_cam(small, x, 1, ['block', 'stem.0', 'stem.2', 'block.1']))
    assert list(maps) == ['block', 'stem.0', 'stem.2', 'block.1']


def test_one_layer_without_a_list(small, x):
    assert list(grad_cam(small, x, layers='block')) == ['block']
    assert list(grad_cam(small, x, layers=small.block)) == ['block']  # not its parts, though a Sequential is iterable


LAYERS = {
    'resnet18': ['layer1', 'layer2', 'layer3', 'layer4'],
    'resnet50': ['layer1', 'layer2', 'layer3', 'layer4'],
    # each ReLU before a pooling layer, but not before the adaptive pool, 7x7 for any image
    'small_vgg': ['features.2', 'features.6', 'features.13', 'features.20', 'features.27', 'features'],
    'mobilenet_v3_small': ['features.0', 'features.1', 'features.3', 'features.8', 'features'],
    'efficientnet_b0': ['features.1', 'features.2', 'features.3', 'features.5', 'features'],
    'densenet121': ['features.relu0', *(f'features.denseblock{i}' for i in (1, 2, 3)), 'features'],
    # the stages, not the LayerNorm of the same resolution that starts the next downsampling
    'convnext_tiny': ['features.1', 'features.3', 'features.5', 'features'],
    # layers between these two return N x h x w x C; V2 has tables that look like maps
    'swin_t': ['features.0.0', 'permute'],
    'swin_v2_t': ['features.0.0', 'permute'],
    'timm:tf_efficientnet_lite0': ['bn1', 'blocks.1', 'blocks.2', 'blocks.4', 'bn2'],  # bn1 and bn2 have the activation
}


@pytest.mark.parametrize('arch', LAYERS)
def test_default_layers(arch):
    torch.manual_seed(0)
    model = small_vgg() if arch == 'small_vgg' else create(arch, 10)
    x, targets = torch.randn(2, 3, 64, 64), torch.tensor([3, 7])
    assert default_layers(model, x) == LAYERS[arch]
    assert_equals_captum(model.eval(), x, targets, grad_cam(model, x, targets, raw=True))


def test_default_layers_for_images_that_are_not_square():
    assert default_layers(convnext_tiny(), torch.randn(1, 3, 90, 133)) == LAYERS['convnext_tiny']
    assert default_layers(cifar_resnet18(), torch.randn(1, 3, 24, 32)) == LAYERS['resnet18']


@pytest.mark.slow
@pytest.mark.parametrize(('arch', 'layers'), [
    ('vit_b_32', ['conv_proj']),  # the later layers return a sequence of tokens
    ('maxvit_t', ['stem', 'blocks.0', 'blocks.1', 'blocks.2', 'blocks.3']),  # none that returns windows x channels
])  # fmt: skip
def test_default_layers_of_models_with_a_fixed_input_size(arch, layers):
    torch.manual_seed(0)
    model, x, targets = get_model(arch, num_classes=10).eval(), torch.randn(1, 3, 224, 224), torch.tensor([3])
    if arch == 'vit_b_32':
        nn.init.normal_(model.heads.head.weight)  # torchvision's is 0, which gives maps of 0
    assert default_layers(model, x) == layers
    assert_equals_captum(model, x, targets, grad_cam(model, x, targets, raw=True))


def test_default_layers_skip_normalisation(x):
    class Normalize(nn.Module):
        def forward(self, x):
            return (x - 0.5) / 0.25

    model = nn.Sequential(Normalize(), cifar_resnet18())
    assert default_layers(model, x) == ['1.layer1', '1.layer2', '1.layer3']  # layer4 is 1x1 for 8x8 images


def test_fastai_vision_model():
    torch.manual_seed(0)
    model, x = create_vision_model(resnet18, 5, pretrained=False), torch.randn(2, 3, 64, 64)
    assert default_layers(model, x) == ['0.2', '0.4', '0.5', '0.6', '0']
    maps = grad_cam(model, TensorImage(x), TensorCategory(torch.tensor([1, 4])))
    assert all(type(cam) is torch.Tensor for cam in maps.values())
    expect_same(maps, grad_cam(model, x, torch.tensor([1, 4])))


# --- context: autograd modes, autocast, train mode, compilation


def test_detached_float32(small, x):
    for cam in grad_cam(small.double(), x.double()).values():
        assert (cam.dtype, cam.requires_grad, cam.is_inference()) == (torch.float32, False, False)


@pytest.mark.parametrize(
    'context',
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast('cpu', torch.bfloat16)],
    ids=['no_grad', 'inference_mode', 'autocast'],
)
@pytest.mark.parametrize('raw', [False, True])
def test_context_makes_no_difference(small, x, context, raw):
    expected = grad_cam(small, x, torch.arange(4), SMALL_LAYERS, raw)
    with context():
        maps = grad_cam(small, x.clone(), torch.arange(4), SMALL_LAYERS, raw)
    expect_same(maps, expected)
    assert not any(cam.is_inference() for cam in maps.values())


def test_train_mode_explains_the_trained_model(small, x):
    expected = grad_cam(small.eval(), x, 1, SMALL_LAYERS)
    expect_same(grad_cam(small.train(), x, 1, SMALL_LAYERS), expected)


def test_frozen(small, x):
    expected = grad_cam(small, x, 1, SMALL_LAYERS)
    expect_same(grad_cam(small.requires_grad_(False), x, 1, SMALL_LAYERS), expected)


def test_channels_last(small, x):
    expected = grad_cam(small, x, 1, SMALL_LAYERS)
    channels_last = {'memory_format': torch.channels_last}
    expect_same(grad_cam(small.to(**channels_last), x.to(**channels_last), 1, SMALL_LAYERS), expected)


@pytest.mark.parametrize('in_place', [False, True])
def test_compiled(small, x, in_place):
    graph_runs = []

    def backend(graph, inputs):
        return lambda *args: graph_runs.append(1) or graph(*args)

    small.eval()
    expected = grad_cam(small, x, 1, SMALL_LAYERS)
    model = small if in_place else torch.compile(small, backend=backend)
    if in_place:
        small.compile(backend=backend)
    model(x)
    before = len(graph_runs)
    assert before
    expect_same(grad_cam(model, x, 1, [*SMALL_LAYERS[:-1], model.block]), expected)
    assert default_layers(model, x) == ['drop', 'block']
    assert len(graph_runs) == before
    model(x)
    assert len(graph_runs) > before, 'the model no longer runs compiled'


# --- the model and the images afterwards


def state(model):
    """Everything that a call could change."""
    return {
        'hooks': [
            len(hooks)
            for m in model.modules()
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ],
        'modes': [m.training for m in model.modules()],
        'requires_grad': [p.requires_grad for p in model.parameters()],
        'grads': [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        'values': {name: value.tolist() for name, value in model.state_dict().items()},  # parameters and buffers
        'context': (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_rng_state().tolist()),
    }


def make_mixed(model):
    """Give the layers different modes, gradients and frozen parameters."""
    model.train()
    model.stem[1].eval()
    model.block.eval()
    model.block[1].train()
    model.stem[0].requires_grad_(False)
    model.head[2].weight.grad = torch.ones_like(model.head[2].weight)


def test_leaves_no_trace(small, x):
    make_mixed(small)
    x.requires_grad_()
    before, image = state(small), x.detach().clone()
    grad_cam(small, x, torch.zeros(4, 2, dtype=torch.long), SMALL_LAYERS)
    grad_cam(small, x)
    assert state(small) == before
    assert torch.equal(x, image)
    assert (x.requires_grad, x.grad) == (True, None)


def test_leaves_no_trace_of_an_error(small, x):
    make_mixed(small)
    before = state(small)
    for bad in ({'layers': ['stem', 'head']}, {'targets': 9}, {'x': x[:, :2]}):  # in the hook, after it, in the model
        with pytest.raises((ValueError, RuntimeError)):
            grad_cam(small, **{'x': x, **bad})
        assert state(small) == before


def test_an_in_place_first_layer_leaves_the_images(x):
    image = x.clone()
    grad_cam(nn.Sequential(nn.ReLU(inplace=True), Small()), x)
    assert torch.equal(x, image)


def test_memory_is_flat(small, x):
    def tensors():
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    counts = []
    gc.collect()
    gc.disable()  # objects that only the collector would free count, too
    try:
        for i in range(200):
            grad_cam(small, x, torch.zeros(4, 2, dtype=torch.long), SMALL_LAYERS)
            if i in (4, 199):
                counts.append((tensors(), len(gc.get_objects())))
    finally:
        gc.enable()
    assert counts[0][0] == counts[1][0]
    assert counts[1][1] - counts[0][1] < 200  # less than one object per call


# --- errors


class Odd(nn.Module):
    """A layer of each kind that has no map."""

    def __init__(self):
        super().__init__()
        self.conv, self.idle, self.aside = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.twice, self.both, self.pool, self.fc = nn.ReLU(), nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Linear(4, 5)

    def forward(self, x):
        self.aside(x)
        h, _ = self.both((self.twice(self.twice(self.conv(x))), None))
        return self.fc(self.pool(h).flatten(1))


@pytest.mark.parametrize(
    ('layers', 'match'),
    [
        (['conv', 'pool'], r"layer 'pool' is 1x1 for 8x8 images, .*: choose an earlier layer"),
        (['fc'], r"layer 'fc' returns \(4, 5\), not N x C x h x w"),
        (['both'], r"layer 'both' returns tuple, not"),
        ([''], r"layer '' returns \(4, 5\)"),
        (['twice'], r"layer 'twice' runs several times"),
        (['conv', 'idle'], r"does not run these layers: \['idle'\]"),
        (['conv', 'aside'], r"do not depend on these layers: \['aside'\]"),
        (['conv', 'conv2'], r"layer 'conv2' is not in the model"),
        (['conv', nn.Conv2d(3, 4, 3)], r'layer of type Conv2d is not in the model'),
        ([4], r'layer of type int is not in the model'),
    ],
)
@pytest.mark.parametrize('frozen', [False, True])
def test_layers_without_a_map(x, layers, match, frozen):
    with pytest.raises(ValueError, match=match):
        grad_cam(Odd().requires_grad_(not frozen), x, layers=layers)


def test_default_layers_have_a_map(x):
    assert default_layers(Odd(), x) == ['conv']  # `twice` is the last of its resolution, but runs twice


def test_frozen_and_no_layer_matters(x):
    with pytest.raises(NoMaps, match=r"do not depend on these layers: \['aside'\]"):
        grad_cam(Odd().requires_grad_(False), x, layers=['aside'])


def test_a_stock_resnet_is_too_deep_for_small_images(x):
    with pytest.raises(NoMaps, match=r"layer 'layer4' is 1x1 for 32x32 images"):
        grad_cam(resnet18(), torch.randn(2, 3, 32, 32))


def test_no_layer_has_a_map(x):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(NoMaps, match='no layer of Sequential has a map larger than 1x1 for 8x8 images'):
        grad_cam(model, x)


@pytest.mark.parametrize(
    ('targets', 'match'),
    [
        (5, 'from 0 to 4, not from 5 to 5'),
        (-1, 'from 0 to 4, not from -1 to -1'),
        (torch.tensor([0, 1, 2, 7]), 'from 0 to 4, not from 0 to 7'),
        (TensorCategory(torch.tensor([0, 1, 2, 7])), 'from 0 to 4, not from 0 to 7'),
        (1.0, r'class indices, not torch.float32'),
        (torch.ones(4, 5, dtype=torch.bool), r'class indices, not torch.bool'),
        (torch.zeros(3, dtype=torch.long), r'not \(3,\) for 4 images'),
        (torch.zeros(3, 2, dtype=torch.long), r'not \(3, 2\) for 4 images'),
        (torch.zeros(4, 2, 1, dtype=torch.long), r'not \(4, 2, 1\) for 4 images'),
        (torch.zeros(4, 0, dtype=torch.long), r'not \(4, 0\) for 4 images'),
    ],
)
def test_bad_targets(small, x, targets, match):
    with pytest.raises(ValueError, match=match):
        grad_cam(small, x, targets)


@pytest.mark.parametrize(
    ('head', 'shape'),
    [
        (nn.Identity(), r'\(4, 8, 4, 4\)'),
        (nn.Flatten(0), r'\(512,\)'),
        (nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (1, 512))), r'\(1, 512\)'),
        (nn.AdaptiveMaxPool2d(1, return_indices=True), 'tuple'),
    ],
)
def test_not_logits(small, x, head, shape):
    small.head = head
    with pytest.raises(NoMaps, match=rf'the model returns {shape} for 4 images'):
        grad_cam(small, x, layers=['stem'])
