"""An optimiser for networks whose convolutions are each followed by a normalisation."""

import torch
from torch import Tensor

STEPS, A, B, C = 3, 3.4445, -4.775, 2.0315  # of airbench94_muon.py


class Muon(torch.optim.SGD):
    """SGD that makes its step of each convolution's filters nearly orthogonal, so that no direction of them leads.

    Before it the filters are scaled to the norm of as many unit vectors, which a normalisation after them undoes; `lr`
    is then about the share of them that changes in a step. Their momentum is Nesterov's, and they have no weight decay.
    All other parameters are left to SGD. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, as in
    https://github.com/KellerJordan/cifar10-airbench; torch's own Muon takes matrices only.
    """

    @torch.no_grad()
    def step(self) -> None:
        """Change all parameters that have a gradient; those of filters are gone afterwards."""
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
                    p.grad = None  # so that SGD passes it by
        super().step()


def orthogonal(x: Tensor) -> Tensor:
    """A matrix with the singular vectors of `x`, and singular values near 1 wherever `x`'s are over 1/50 of its norm.

    By three Newton-Schulz iterations of the fifth degree with Jordan's coefficients; smaller ones become 41 times as
    large beside the norm. A matrix of zeros stays one.
    """
    # They are polynomials of the same small square matrix, so that only their product has to meet `x`: a step of
    # the narrow SpeedNet took 36 ms on two cores, and 58 ms with each of the three applied by itself.
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
    """What an iteration multiplies a matrix by that has `gram` as its product with itself transposed."""
    factor = torch.addmm(gram, gram, gram, beta=B, alpha=C)
    factor.diagonal().add_(A)
    return factor
