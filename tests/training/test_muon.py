import numpy as np
import pytest
import torch
from torch import nn

from training.muon import Muon, orthogonal


def iterated(s):
    """Three iterations applied to the singular values `s`."""
    s = s / (s**2).sum() ** 0.5
    for _ in range(3):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return s


@pytest.mark.parametrize('shape', [(3, 5), (5, 3), (4, 4)])
def test_iterates_singular_values_and_keeps_singular_vectors(shape):
    x = np.random.default_rng(0).normal(size=shape)
    u, s, v = np.linalg.svd(x, full_matrices=False)
    torch.testing.assert_close(orthogonal(torch.tensor(x)), torch.tensor(u * iterated(s) @ v))


def test_a_zero_matrix_stays_zero():
    assert orthogonal(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


def test_zero_filters_begin_to_learn():
    conv = nn.Conv2d(2, 3, 3, bias=False)
    nn.init.zeros_(conv.weight)
    conv.weight.grad = torch.randn_like(conv.weight)
    Muon(conv.parameters(), lr=0.1, momentum=0.5, nesterov=True).step()
    assert conv.weight.isfinite().all()
    assert conv.weight.norm() > 0


@pytest.mark.parametrize(('n_in', 'n_out', 'layout'), [
    (2, 3, torch.contiguous_format), (2, 3, torch.channels_last), (1, 16, torch.channels_last),
])  # fmt: skip
def test_two_steps_of_filters_and_of_the_rest(n_in, n_out, layout):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(n_in, n_out, 3), nn.Flatten(), nn.Linear(n_out, 1)).to(memory_format=layout)
    conv, bias, head = model[0].weight, model[0].bias, model[2].weight
    opt = Muon(model.parameters(), lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.01)
    w, b, h = (p.detach().clone() for p in (conv, bias, head))
    past = [0.0] * 3
    for _ in range(2):
        opt.zero_grad()
        model(torch.randn(4, n_in, 3, 3)).square().sum().backward()
        grads = conv.grad, bias.grad + 0.01 * b, head.grad + 0.01 * h
        past = [0.5 * old + g for old, g in zip(past, grads, strict=True)]
        ahead = [g + 0.5 * new for g, new in zip(grads, past, strict=True)]
        u, s, v = torch.linalg.svd(ahead[0].reshape(n_out, 9 * n_in), full_matrices=False)
        w = w * (n_out**0.5 / w.norm()) - 0.1 * ((u * iterated(s)) @ v).view(w.shape)
        b, h = b - 0.1 * ahead[1], h - 0.1 * ahead[2]
        opt.step()
        torch.testing.assert_close((conv, bias, head), (w, b, h), check_stride=False)
