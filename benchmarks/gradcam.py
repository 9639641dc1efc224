"""Time Grad-CAM of 25 images at 4 layers of a CIFAR ResNet-18: this project and others, in one run.

    pip install -r benchmarks/requirements.txt && python benchmarks/gradcam.py

Each round times every implementation once, so that other load on the machine affects all of them. The unit is one
plain forward and backward pass of the batch, as in training.
"""

import sys
from copy import deepcopy
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from captum.attr import LayerGradCam
from fastcore.script import call_parse
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from interpret.gradcam import grad_cam
from models.resnet import cifar_resnet18

LAYERS = ['layer1', 'layer2', 'layer3', 'layer4']


def plain(model: nn.Module, x: Tensor, targets: Tensor) -> None:
    """One forward and backward pass of the batch, with the gradients of all parameters."""
    model.zero_grad()
    model(x).gather(1, targets[:, None]).sum().backward()


def captum(model: nn.Module, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Captum: the whole batch, one layer at a time; raw maps."""
    maps = {}
    for name in LAYERS:
        peer = LayerGradCam(model, model.get_submodule(name))
        maps[name] = peer.attribute(x, targets, relu_attributions=True).squeeze(1).detach()
    return maps


def pytorch_grad_cam(model: nn.Module, x: Tensor, targets: Tensor, raw: bool = False) -> dict[str, Tensor]:
    """pytorch-grad-cam: the whole batch, one layer at a time, as it averages the maps of several layers."""
    maps, classes = {}, [ClassifierOutputTarget(target) for target in targets.tolist()]
    for name in LAYERS:
        layer = model.get_submodule(name)
        with GradCAM(model, [layer]) as cam:
            maps[name] = cam(x, classes)
            if raw:
                seen = cam.activations_and_grads
                seen = seen.activations[0].numpy(), seen.gradients[0].numpy()
                maps[name] = np.maximum(cam.get_cam_image(x, layer, classes, *seen), 0)
    return {name: torch.from_numpy(cam) for name, cam in maps.items()}


def one_at_a_time(model: nn.Module, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """One image and one layer at a time, as in course notebooks; raw maps."""
    maps = {name: [] for name in LAYERS}
    for name in LAYERS:
        layer, seen = model.get_submodule(name), {}
        hooks = [
            layer.register_forward_hook(lambda module, args, out, seen=seen: seen.update(act=out.detach())),
            layer.register_full_backward_hook(lambda module, into, out, seen=seen: seen.update(grad=out[0])),
        ]
        for image, target in zip(x, targets, strict=True):
            model.zero_grad()
            model(image[None])[0, target].backward()
            weight = seen['grad'][0].mean((1, 2), keepdim=True)
            maps[name].append((weight * seen['act'][0]).sum(0).relu())
        for hook in hooks:
            hook.remove()
    return {name: torch.stack(cams) for name, cams in maps.items()}


def check_same(model: nn.Module, x: Tensor, targets: Tensor) -> None:
    """Check that all implementations give the same raw maps."""
    ours = grad_cam(model, x, targets, LAYERS, raw=True)
    peers = captum(model, x, targets), pytorch_grad_cam(model, x, targets, raw=True), one_at_a_time(model, x, targets)
    for name, cam in ours.items():
        for peer in peers:
            torch.testing.assert_close(cam, peer[name], rtol=1e-4, atol=1e-5 * cam.max().item())


@call_parse
def main(
    repeats: int = 3,  # rounds; each times every implementation once
):
    """Time all implementations and print a table."""
    torch.manual_seed(0)
    model, x, targets = cifar_resnet18().eval(), torch.randn(25, 3, 32, 32), torch.randint(10, (25,))
    check_same(model, x, targets)

    training = deepcopy(model).train()
    ways = {  # name: function to time, target of this project
        'one plain forward + backward': (lambda: plain(training, x, targets), ''),
        'this project': (lambda: grad_cam(model, x, targets, LAYERS), 'at most 1.15 x plain'),
        'Captum': (lambda: captum(model, x, targets), 'at least 3.4 x ours'),
        'pytorch-grad-cam': (lambda: pytorch_grad_cam(model, x, targets), 'at least 7.5 x ours'),
        'one image, one layer at a time': (lambda: one_at_a_time(model, x, targets), 'at least 10 x ours'),
    }
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (way, _) in ways.items():
            start = perf_counter()
            way()
            seconds[name].append(perf_counter() - start)

    unit, ours = (median(seconds[name]) for name in list(ways)[:2])
    print(
        f'25 images of 32x32, 4 layers, {repeats} rounds, {torch.get_num_threads()} threads, torch {torch.__version__}'
    )
    print('\n| implementation | median s | min s | x plain | x ours | target |\n|---|--:|--:|--:|--:|---|')
    for name, (_, bar) in ways.items():
        time = median(seconds[name])
        print(f'| {name} | {time:.3f} | {min(seconds[name]):.3f} | {time / unit:.2f} | {time / ours:.2f} | {bar} |')
