"""An optimiser that lets no direction of a layer lead."""

import torch
from torch import Tensor

STEPS, A, B, C = 3, 3.4445, -4.775, 2.0315


class Muon(torch.optim.SGD):
    """SGD with Nesterov momentum that makes its step of each convolution's filters nearly orthogonal.

    Before it the filters are scaled to the norm of as many unit vectors. So their weight decay has no effect, and `lr`
    is about the share of them that changes in a step. All other parameters are left to SGD.
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, as in
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
                    p.mul_(len(p) ** 0.5 / p.norm())
                    p.sub_(orthogonal(ahead.flatten(1)).view(p.shape), alpha=group['lr'])
                    p.grad = None  # so that SGD passes it by
        super().step()


def orthogonal(x: Tensor) -> Tensor:
    """A matrix with the singular vectors of `x`, and singular values of about 1 but where `x` has tiny ones.

    By three Newton-Schulz iterations of the fifth degree with Jordan's coefficients. Nothing of zeros only.
    """
    # They are polynomials of the same small square matrix, so that only their product has to meet `x`: a step of
    # SpeedNet takes 36 ms on two cores, and 58 ms if each of the three is applied by itself.
    x = x / x.norm().clamp(min=1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    gram, product = x @ x.T, None
    for _ in range(STEPS):
        factor = torch.addmm(gram, gram, gram, beta=B, alpha=C)
        factor.diagonal().add_(A)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x
