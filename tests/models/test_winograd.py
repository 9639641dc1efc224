import shutil
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from fastai.callback.core import Callback
from torch import nn

from models.winograd.convolution import _convolve, _gradients, winograd, winograd_convolutions
from train_fastai import SPEEDRUN, GradCAMInterpretation, find_lr, fit

pytestmark = pytest.mark.usefixtures('thresholds_of_avx2')
needs_compiler = pytest.mark.skipif(not shutil.which('g++'), reason='torch.compile needs a C++ compiler')

SIDES = [(1, 1), (2, 3), (7, 5), (15, 9), (16, 8), (31, 32), (4, 19), (13, 22)]


def result_and_gradients(convolve, x, weight):
    """The result, and the gradients of its dot product with fixed random numbers."""
    y = convolve(x, weight)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return y, *torch.autograd.grad(y, (x, weight), grad)


def numbers(*shape, dtype=torch.double, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize('sides', SIDES)
def test_result_and_gradients_are_those_of_torch(sides):
    x, weight = numbers(2, 3, *sides), numbers(5, 3, 3, 3, seed=2)
    ours, theirs = (result_and_gradients(f, x, weight) for f in (winograd, lambda *a: F.conv2d(*a, padding=1)))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9, check_stride=False)


@pytest.mark.parametrize('side', range(1, 33))
def test_rounding_stays_below_a_ten_thousandth(side):
    x = numbers(2, 64, side, side, dtype=torch.float)
    weight = numbers(64, 64, 3, 3, dtype=torch.float, seed=2)
    ours = result_and_gradients(winograd, x, weight)
    doubles = (o.detach().double().requires_grad_() for o in (x, weight))
    exact = result_and_gradients(lambda *a: F.conv2d(*a, padding=1), *doubles)
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() < 1e-4 * b.norm()


def test_the_operators_pass_pytorchs_opcheck():
    x, weight = numbers(2, 7, 9, 3), numbers(5, 3, 3, 3, seed=2)
    torch.library.opcheck(_convolve, (x, weight))
    y, *kept = (o.detach() for o in _convolve(x, weight))
    for needed in (True, True), (True, False), (False, True):
        torch.library.opcheck(_gradients, (y, *kept, *needed))


@needs_compiler
@pytest.mark.slow
def test_compiled_code_uses_the_operator_without_graph_breaks():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()), torch.randn(20, 64, 9, 9)
    fast, results = torch.compile(model, dynamic=False), []
    with winograd_convolutions(model):
        graphs = torch._dynamo.explain(model)(x)
        for way in model, fast:
            model.zero_grad()
            way(x).square().mean().backward()
            results.append((way(x), model[0].weight.grad))
    assert (graphs.graph_count, graphs.graph_break_count) == (1, 0)
    assert any(node.target is torch.ops.train_fastai.winograd.default for node in graphs.graphs[0].graph.nodes)
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4, check_stride=False)


def test_a_second_derivative_is_refused():
    x, weight = numbers(2, 3, 5, 5), numbers(4, 3, 3, 3)
    (dx,) = torch.autograd.grad(winograd(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='autograd'):
        dx.sum().backward()


def convolved(model, x):
    """The output of a `model` of one convolution for `x`, and the convolution's class meanwhile."""
    with winograd_convolutions(model):
        return model(x), type(model[0])


def test_only_suitable_convolutions_are_replaced():
    torch.manual_seed(0)
    convs = [
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode='reflect'),
        nn.Conv2d(64, 64, 3, padding='same'),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.Conv2d(64, 32, 3, padding=1),
    ]
    x = torch.randn(13, 64, 9, 9)
    expected = [m(x[:, : m.in_channels]) for m in convs]
    got, classes = zip(*(convolved(nn.Sequential(m), x[:, : m.in_channels]) for m in convs), strict=True)
    assert [cls is nn.Conv2d for cls in classes] == [False] + [True] * 9
    torch.testing.assert_close([*got], expected, rtol=0, atol=1e-4, check_stride=False)
    assert not torch.equal(got[0], expected[0])  # they round differently


@pytest.mark.parametrize('x', [
    torch.randn(4, 64, 33, 8),  # too high
    torch.randn(15, 64, 8, 8),  # too few pixels
    torch.randn(16, 64, 8, 8).bfloat16(),  # too coarse: rounds by 4e-3 already
    torch.randn(64, 8, 8),  # one image without a batch dimension
    torch.randn(0, 64, 8, 8),
], ids=['large', 'few', 'bfloat16', 'unbatched', 'empty'])  # fmt: skip
def test_unsuitable_inputs_use_torchs_convolution(x):
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).to(x.dtype)
    assert torch.equal(convolved(model, x)[0], model(x))


def test_an_inplace_activation_may_overwrite_the_result():
    model, x = (
        nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.ReLU(inplace=True)),
        torch.randn(40, 64, 5, 5),
    )
    with winograd_convolutions(model):
        model(x).sum().backward()
    ours, model[0].weight.grad = model[0].weight.grad, None
    model(x).sum().backward()
    torch.testing.assert_close(ours, model[0].weight.grad, rtol=0, atol=1e-3, check_stride=False)


def test_the_model_is_restored_afterwards():
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), winograd_convolutions(model):
        raise KeyboardInterrupt
    assert type(model[0]) is nn.Conv2d
    assert all(torch.equal(p, weights[name]) for name, p in model.state_dict().items())


class Classes(Callback):
    """Record the class of a convolution after each forward pass."""

    def after_pred(self):
        self.seen.add(type(self.model.layer2.conv2))


def test_training_sweep_and_predictions_use_it(learner):
    learn = learner(replace(SPEEDRUN, bs=4, sweep_steps=2), valid=0)
    seen = Classes()
    learn.add_cb(seen)
    for work in (find_lr, lambda learn: fit(learn, 1), GradCAMInterpretation.from_learner):
        seen.seen = set()
        work(learn)
        assert len(seen.seen) == 1
        assert nn.Conv2d not in seen.seen
        assert type(learn.model.layer2.conv2) is nn.Conv2d


@pytest.mark.parametrize('frozen', ['x', 'weight'])
def test_a_frozen_input_gets_no_gradient(frozen):
    args = {'x': numbers(2, 3, 5, 5), 'weight': numbers(4, 3, 3, 3)}
    args[frozen].requires_grad_(False)
    winograd(**args).sum().backward()
    (trained,) = args.keys() - {frozen}
    assert args[frozen].grad is None
    expected = torch.autograd.grad(F.conv2d(args['x'], args['weight'], padding=1).sum(), args[trained])[0]
    torch.testing.assert_close(args[trained].grad, expected, check_stride=False)
