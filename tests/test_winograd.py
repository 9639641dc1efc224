import pytest
import torch
import torch.nn.functional as F
from torch import nn

from winograd import WinogradConv2d, use_winograd, winograd

SIDES = [(1, 1), (2, 3), (7, 5), (15, 9), (16, 8), (31, 32), (4, 19), (13, 22)]


def of_all(convolve, x, weight):
    """The result, and the gradients of its product with fixed numbers."""
    y = convolve(x, weight)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return y, *torch.autograd.grad(y, (x, weight), grad)


def numbers(*shape, dtype=torch.double, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize('sides', SIDES)
def test_result_and_gradients_are_those_of_torch(sides):
    x, weight = numbers(2, 3, *sides), numbers(5, 3, 3, 3, seed=2)
    ours, theirs = (of_all(f, x, weight) for f in (winograd, lambda *a: F.conv2d(*a, padding=1)))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9, check_stride=False)


@pytest.mark.parametrize('side', range(1, 33))
def test_rounding_stays_below_a_ten_thousandth(side):
    x, weight = numbers(2, 64, side, side, dtype=torch.float), numbers(64, 64, 3, 3, dtype=torch.float)
    ours = of_all(winograd, x, weight)
    exact = of_all(lambda *a: F.conv2d(*a, padding=1), *(o.detach().double().requires_grad_() for o in (x, weight)))
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() < 1e-4 * b.norm()


def test_only_convolutions_that_it_can_do_and_that_gain_are_replaced():
    model = nn.Sequential(
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
    )
    x, before = torch.randn(1, 64, 9, 9), [m.state_dict() for m in model]
    expected = [m(x if m.in_channels == 64 else x[:, :32]) for m in model]
    use_winograd(model)
    assert [type(m) for m in model] == [WinogradConv2d] + [nn.Conv2d] * 9
    got = [m(x if m.in_channels == 64 else x[:, :32]) for m in model]
    torch.testing.assert_close(got, expected, check_stride=False)
    assert all(torch.equal(a[k], m.state_dict()[k]) for a, m in zip(before, model, strict=True) for k in a)


def test_a_large_image_is_convolved_by_torch():
    conv = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    x = torch.randn(1, 64, 33, 8)
    expected = conv(x)
    use_winograd(conv)
    assert torch.equal(conv(x), expected)


@pytest.mark.parametrize('frozen', ['x', 'weight'])
def test_what_needs_no_gradient_gets_none(frozen):
    args = {'x': numbers(2, 3, 5, 5), 'weight': numbers(4, 3, 3, 3)}
    args[frozen].requires_grad_(False)
    winograd(**args).sum().backward()
    (trained,) = args.keys() - {frozen}
    assert args[frozen].grad is None
    expected = torch.autograd.grad(F.conv2d(args['x'], args['weight'], padding=1).sum(), args[trained])[0]
    torch.testing.assert_close(args[trained].grad, expected, check_stride=False)
