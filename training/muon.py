"""The Muon optimiser, for networks with a normalisation after each convolution."""

import torch
from torch import Tensor

STEPS, A, B, C = 3, 3.4445, -4.775, 2.0315  # of airbench94_muon.py


class Muon(torch.optim.SGD):
    """Muon for convolution filters: replaces each update by a nearly orthogonal matrix. SGD for all other parameters.

    Before each update, a convolution's n filters are scaled to a Frobenius norm of sqrt(n), so `lr` is about their
    relative change in a step; the normalisation after the convolution cancels the scale. Filters have Nesterov momentum
    and no weight decay. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, as in
    https://github.com/KellerJordan/cifar10-airbench; torch's own Muon takes matrices only.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters that have a gradient; filters' gradients are None afterwards."""
        for group in self.param_groups:
            for p in group['params']:
                if p.ndim == 4 and p.grad is not None:
                    state = self.state[p]
                    if 'momentum_buffer' not in state:
                        state['momentum_buffer'] = torch.zeros_like(p)
                    buffer = state['momentum_buffer'].mul_(group['momentum']).add_(p.grad)
                    ahead = p.grad.add(buffer, alpha=group['momentum'])
                    p.mul_(len(p) ** 0.5 / p.norm().clamp(min=1e-7))
                    p.sub_(orthogonal(ahead.flatten(1)).view(p.shape), alpha=group['lr'])
                    p.grad = None  # so that SGD skips it
        super().step()


def orthogonal(x: Tensor) -> Tensor:
    """A matrix with the singular vectors of `x`; singular values over 1/50 of the norm of `x` become nearly 1.

    Three Newton-Schulz iterations of degree 5 with Jordan's coefficients. Smaller singular values, relative to the
    norm, become up to 41 times as large. A zero matrix stays zero.
    """
    # The iterations' factors are polynomials of the same small square matrix, so only their product is multiplied with
    # `x`: a step of the narrow SpeedNet took 36 ms on two cores, and 58 ms with the three factors applied one by one.
    x = x / x.norm().clamp(min=1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    gram = x @ x.T
    product = factor = _polynomial(gram)
    for _ in range(STEPS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        product = factor @ product
    x = product @ x
    return x.T if tall else x


def _polynomial(gram: Tensor) -> Tensor:
    """An iteration's factor for a matrix X with `gram` = X X'."""
    factor = torch.addmm(gram, gram, gram, beta=B, alpha=C)
    factor.diagonal().add_(A)
    return factor
