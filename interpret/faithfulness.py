"""Measure whether a layer's Grad-CAM maps explain the model, with confidence intervals."""

from copy import deepcopy
from functools import partial
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from fastai.torch_core import one_param, to_device
from scipy.stats import spearmanr, t
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from interpret.gradcam import grad_cam
from interpret.hooks import explaining, original
from interpret.interpretation import GradCAMInterpretation
from models.winograd.convolution import winograd_convolutions
from runtime.progress import progress

SHARES = 0.1, 0.3, 0.5, 0.7, 0.9  # fractions of the pixels to insert or delete

BATCH = 8


def faithfulness(interp: GradCAMInterpretation, layers=None, seconds=30.0, n=100, seed=0) -> pd.DataFrame:
    """Measure the maps of `layers` on `n` random images of `interp`, fewer if time runs out; one row per layer.

    `score` is insertion minus deletion (Petsiuk et al. 2018, arXiv 1806.07421): the mean probability of the predicted
    class as the pixels ranked highest are inserted into the blurred image, minus that as they are blurred in the sharp
    image. `over_random` and `over_centre` are `score` minus the score of random pixels and of a Gaussian at the centre.
    `unlike_random_weights` is 1 minus the rank correlation with the map of a model with random weights from the layer
    to the head (Adebayo et al. 2018, arXiv 1810.03292). `..._ci` is half the 95% interval (Student's t) over `images`.
    A layer is `faithful` if all three intervals lie above 0. `layers` and errors are those of `grad_cam`.
    """
    model, rng, start = original(interp.learn.model), np.random.default_rng(seed), perf_counter()
    order, samples = rng.permutation(len(interp.targs))[:n], []
    x = to_device(interp[order[:1]][0], one_param(model).device)
    with explaining(model, x):
        layers = list(grad_cam(model, x, layers=layers))  # names; raises if one has no map
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            randomised = {layer: _randomised(model, layer) for layer in layers}
        for i in progress(range(0, len(order), BATCH), 'measuring faithfulness'):
            if i and perf_counter() - start > seconds:
                break
            x, _, _, classes, _ = interp[order[i : i + BATCH]]
            x = to_device(x, one_param(model).device)
            scored = partial(_score, model, x, _blurred(x), classes, at_once=interp.dl.bs)
            random, centre = scored(torch.from_numpy(rng.random((len(x), *x.shape[-2:])))), scored(_gaussian(x))
            for layer, maps in grad_cam(model, x, classes, layers).items():
                score = scored(maps)
                others = grad_cam(randomised[layer], x, classes, [layer])[layer]
                unlike = [
                    1 - _rank_correlation(a, b) for a, b in zip(maps.cpu().numpy(), others.cpu().numpy(), strict=True)
                ]
                columns = {'score': score, 'over_random': score - random, 'over_centre': score - centre}
                samples.append(pd.DataFrame({'layer': layer, **columns, 'unlike_random_weights': unlike}))
    by_layer = pd.concat(samples).groupby('layer', sort=False)
    images, means = by_layer.size().rename('images'), by_layer.mean()
    halves = by_layer.sem().mul(t.ppf(0.975, images - 1), axis=0).fillna(np.inf)  # one image gives no interval
    faithful = (means > halves).drop(columns='score').all(axis=1).rename('faithful')
    return pd.concat([images, means, halves.add_suffix('_ci'), faithful], axis=1)


def _randomised(model: nn.Module, layer: str) -> nn.Module:
    """A copy of `model` with random weights in `layer` and in all modules registered after it."""
    modules = dict(deepcopy(model).named_modules())
    for name in list(modules)[list(modules).index(layer) :]:
        if hasattr(modules[name], 'reset_parameters'):
            modules[name].reset_parameters()
    return modules['']


def _gaussian(x: Tensor) -> Tensor:
    """A Gaussian map, highest at the centre, for each image of `x`."""
    h, w = (torch.linspace(-1, 1, side) for side in x.shape[-2:])
    return torch.exp(-(h[:, None] ** 2 + w**2)).expand(len(x), -1, -1)


def _blurred(x: Tensor) -> Tensor:
    sides = x.shape[:1:-1]  # width and height
    return gaussian_blur(x, [(side - 1) // 2 * 2 + 1 for side in sides], [side / 4 for side in sides])


def _score(model: nn.Module, x: Tensor, blurred: Tensor, classes: Tensor, maps: Tensor, at_once: int) -> np.ndarray:
    """Insertion minus deletion of each image, averaged over SHARES; `at_once` limits the images of a forward pass."""
    ranks = (-maps.cpu()).flatten(1).argsort(stable=True).argsort().view_as(maps)  # ties in reading order
    pixels = torch.tensor([share * maps[0].numel() for share in SHARES])
    chosen = (ranks + 1 <= pixels[:, None, None, None])[:, :, None].to(x.device)  # shares x N x 1 x H x W
    both = torch.stack([torch.where(chosen, x, blurred), torch.where(chosen, blurred, x)])
    # one large batch takes less time than a small one for each share
    with torch.no_grad(), winograd_convolutions(model):
        p = torch.cat([model(o).float().softmax(1).cpu() for o in both.flatten(0, 2).split(at_once)])
    inserted, deleted = p[range(len(p)), classes.repeat(2 * len(SHARES))].view(2, len(SHARES), len(x))
    return (inserted - deleted).mean(0).numpy()


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; 0 if a map is constant."""
    return 0.0 if a.min() == a.max() or b.min() == b.max() else spearmanr(a, b, axis=None).statistic
