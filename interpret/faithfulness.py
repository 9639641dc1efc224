"""Whether a layer's Grad-CAM maps say anything about the model: measured, with confidence intervals."""

from copy import deepcopy
from time import perf_counter

import numpy as np
import pandas as pd
import torch
from fastai.torch_core import one_param, to_device
from scipy.stats import rankdata, t
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from interpret.gradcam import default_layers, grad_cam
from interpret.interpretation import GradCAMInterpretation
from interpret.plots import batch_at

SHARES = 0.1, 0.3, 0.5, 0.7, 0.9  # of the pixels that are put in or taken out


def faithfulness(
    interp: GradCAMInterpretation, layers: list[str] | None = None, seconds: float = 30.0, bs: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Measure the maps of `layers` on random images of `interp`, batch after batch for `seconds`; one row a layer.

    `score` is insertion less deletion (Petsiuk et al. 2018, arXiv 1806.07421): the mean probability of the predicted
    class while the pixels that the map ranks highest are put into the blurred image, less that while they are blurred
    in the sharp one. `over_random` and `over_centre` are how much more that is than for pixels in random order and for
    a Gaussian at the centre, the same image each time. `unlike_random_weights` is one less the rank correlation with
    the map of a model whose weights were drawn anew from its head down to the layer (Adebayo et al. 2018, arXiv
    1810.03292). Each comes with `..._ci`, half the width of its 95% interval over the `images`; a layer is `faithful`
    if all three are above 0 for sure.
    """
    learn = interp.learn
    training, model, device = learn.model.training, learn.model.eval(), one_param(learn.model).device
    rng, samples, start = np.random.default_rng(seed), {}, perf_counter()
    order = rng.permutation(len(interp.targs))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = layers or default_layers(model, to_device(batch_at(interp.dl, [0])[0], device))
        strangers = {layer: _randomised(model, layer) for layer in layers}
    for i in range(0, len(order), bs):
        if i and perf_counter() - start > seconds:
            break
        idxs = order[i : i + bs].tolist()
        x, classes = to_device(batch_at(interp.dl, idxs)[0], device), interp.decoded[idxs]
        maps = grad_cam(model, x, classes, layers)
        random, centre = torch.from_numpy(rng.random((len(x), *x.shape[-2:]))), _gaussian(x)
        baselines = [_score(model, x, classes, m) for m in (random, centre)]
        for layer, cams in maps.items():
            score = _score(model, x, classes, cams)
            other = grad_cam(strangers[layer], x, classes, [layer])[layer]
            unlike = [1 - _rank_correlation(a, b) for a, b in zip(cams.cpu(), other.cpu(), strict=True)]
            rows = np.stack([score, score - baselines[0], score - baselines[1], unlike], 1)
            samples.setdefault(layer, []).append(rows)
    learn.model.train(training)
    return _table({layer: np.concatenate(rows) for layer, rows in samples.items()})


def _randomised(model: nn.Module, layer: str) -> nn.Module:
    """A copy with new weights in `layer` and in all that is registered after it, up to the head."""
    copy = deepcopy(model)
    names = [name for name, _ in copy.named_modules()]
    for module in list(copy.modules())[names.index(layer) :]:
        if hasattr(module, 'reset_parameters'):
            module.reset_parameters()
    return copy


def _gaussian(x: Tensor) -> Tensor:
    """A map for each image of `x` that falls off from the centre."""
    h, w = (torch.linspace(-1, 1, side) for side in x.shape[-2:])
    return torch.exp(-(h[:, None] ** 2 + w**2)).expand(len(x), -1, -1)


def _score(model: nn.Module, x: Tensor, classes: Tensor, maps: Tensor) -> np.ndarray:
    """Insertion less deletion of each image, the mean over SHARES."""
    kernel = [(side - 1) // 2 * 2 + 1 for side in x.shape[:1:-1]]  # width and height, odd, as wide as the image goes
    blurred = gaussian_blur(x, kernel, [side / 4 for side in x.shape[:1:-1]])
    # ranks, as a map can have one value in many places
    ranks = torch.from_numpy(rankdata(-maps.cpu().flatten(1), axis=1, method='ordinal')).view_as(maps) / maps[0].numel()
    score = 0
    for share in SHARES:
        chosen = (ranks <= share)[:, None].to(x.device)
        both = torch.cat([torch.where(chosen, x, blurred), torch.where(chosen, blurred, x)])
        with torch.no_grad():
            p = model(both).float().softmax(1).cpu()
        inserted, deleted = p.gather(1, torch.cat([classes, classes])[:, None]).view(2, -1)
        score = score + (inserted - deleted).numpy() / len(SHARES)
    return score


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, and 0 where a map is constant and ranks nothing."""
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    return np.corrcoef(rankdata(a), rankdata(b))[0, 1]


def _table(samples: dict[str, np.ndarray]) -> pd.DataFrame:
    """Means and half-widths of the 95% intervals (Student's t) of the columns of each layer's samples."""
    columns = ['score', 'over_random', 'over_centre', 'unlike_random_weights']
    rows = {}
    for layer, values in samples.items():
        n, mean = len(values), values.mean(0)
        half = t.ppf(0.975, n - 1) * values.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(4, np.inf)
        row = {'images': n, **dict(zip(columns, mean, strict=True))}
        row |= {f'{column}_ci': ci for column, ci in zip(columns, half, strict=True)}
        rows[layer] = {**row, 'faithful': bool((mean[1:] > half[1:]).all())}
    return pd.DataFrame.from_dict(rows, orient='index')
