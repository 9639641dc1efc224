"""Write the model of a run as one file for other programs: `python export.py --help`."""

from own_modules import refuse_hidden_modules

refuse_hidden_modules()

from errors import exit_on_interrupt

if __name__ == '__main__':
    exit_on_interrupt('export.py')

import os
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from json import dumps, loads
from os.path import expanduser
from pathlib import Path
from typing import Annotated

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # from inside fastai, nothing for its user to do

import numpy as np
import torch
from fastai.data.external import fastai_path
from fastai.learner import Learner
from fastcore.script import call_parse
from torch import Tensor

from architectures import get_model
from atomic import replacing
from classifier import Classifier
from command_line import one_screen
from data.layout import find_classes, find_splits, visible
from data.sources import get_source
from errors import UserError, ends_in_one_line, printable
from inference import batches, probabilities
from options import read_config
from recipes import Recipe
from reopen import load_model

N_IMAGES = 100
MOST = 1e-4  # that a probability may differ from the Learner's
PACKAGES = {'onnx': ('onnxruntime', 'onnxscript'), 'safetensors': ('safetensors',)}


def export(run: str | Path, format: str, out: str | Path | None = None) -> str:
    """Write the model of `run` to `out` (default: model.`format` in `run`) and say how it was checked, in one line.

    The file gives, of 100 images, the probabilities that the Learner gives, to 1e-4. Raises UserError, and leaves no
    file, where they differ, the network can't be written in this format, or a package is missing.
    """
    if missing := [package for package in PACKAGES[format] if find_spec(package) is None]:
        raise UserError(f'--format {format} needs {" and ".join(missing)}: pip install {" ".join(missing)}')
    learn = load_model(run, torch.device('cpu'))  # where nothing is rounded to bf16
    config = read_config(learn.path / 'config.json')
    path = Path(expanduser(out)) if out else learn.path
    if path.is_dir() or str(out).endswith(('/', os.sep)):
        path /= f'model.{format}'
    x, whose = _images(learn, config['options']['data'])
    (decoded,) = learn.dls.valid.after_item.decode((x,))
    pixels, bs = (255 * decoded).round().byte().as_subclass(Tensor), learn.dls.valid.bs
    write = {'onnx': write_onnx, 'safetensors': write_safetensors}[format]
    with replacing(path) as part:
        theirs = write(learn, part)
        pairs = zip(pixels.split(bs), x.split(bs), strict=True)
        worst = torch.stack([(theirs(o) - probabilities(learn, batch)).abs().max() for o, batch in pairs]).max().item()
        if not worst <= MOST:
            raise UserError(f'{path} is not written: its probabilities would differ by {worst:.2g} from the Learner')
    return f'{path}: its probabilities differ by at most {worst:.1g} from the Learner on {len(x)} {whose}'


def write_onnx(learn: Learner, file: Path) -> Callable[[Tensor], Tensor]:
    """Write the `Classifier` of `learn` for any number of images; return what the file computes."""
    from onnxruntime import InferenceSession

    example = torch.zeros(2, 3, *learn.dls.size, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            Classifier(learn.model, learn.recipe).eval(),
            (example,),
            dynamo=True,
            input_names=['images'],
            output_names=['probabilities'],
            dynamic_shapes=({0: torch.export.Dim('n')},),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as e:
        raise UserError(f"torch can't write {learn.recipe.arch} as ONNX: take --format safetensors") from e
    program.model.metadata_props.update(_about(learn))
    program.save(file, external_data=False)
    session = InferenceSession(file, providers=['CPUExecutionProvider'])
    return lambda pixels: torch.from_numpy(session.run(None, {'images': pixels.numpy()})[0])


def write_safetensors(learn: Learner, file: Path) -> Callable[[Tensor], Tensor]:
    """Write the weights of `learn`; return what they compute in the `Classifier` that is made by the file's header."""
    from safetensors import safe_open
    from safetensors.torch import save

    weights = {name: tensor.contiguous() for name, tensor in learn.model.state_dict().items()}  # not channels last
    file.write_bytes(save(weights, {'format': 'pt', **_about(learn)}))
    with safe_open(file, 'pt') as f:
        about, weights = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118, it's no dict
    recipe = Recipe.from_dict(loads(about['recipe']))
    model = get_model(recipe, len(loads(about['classes'])), loads(about['size']), load=False)
    model.load_state_dict(weights)
    return torch.no_grad()(Classifier(model, recipe).eval())


def _about(learn: Learner) -> dict[str, str]:
    """What a file's header says of its model, each value as JSON."""
    recipe = learn.recipe
    about = {'classes': list(learn.dls.vocab), 'size': learn.dls.size, 'mean': recipe.mean, 'std': recipe.std}
    about |= {'architecture': recipe.arch, 'recipe': asdict(recipe)}
    return {name: dumps(value) for name, value in about.items()}


def _images(learn: Learner, data: str) -> tuple[Tensor, str]:
    """What the network takes of 100 of the run's images, or of random ones, and which they are."""
    files, whose = _files(data)
    if found := [x for good, x, _ in batches(learn, files) if good]:
        return torch.cat(found), whose
    noise = np.random.default_rng(0).integers(0, 256, (N_IMAGES, *learn.dls.size, 3), dtype=np.uint8)
    x = torch.cat([x for _, x, _ in batches(learn, list(noise))])
    return x, "random images, as the run's are not there"


def _files(data: str) -> tuple[list[Path], str]:
    """100 test images of where a run's data was, from the first class to the last, and where they are.

    Images of class folders where there is no test set, and none where nothing is there: nothing is downloaded.
    """
    try:
        path = fastai_path('data') / 'cifar10' if data == 'cifar10' else get_source(data)
        splits = find_splits(path)
        classes = find_classes(path, splits)
    except (UserError, OSError):
        return [], ''
    *_, folder = splits.values()
    files = [file for name in classes for file in visible(folder / name)]
    files = [files[i] for i in np.linspace(0, len(files) - 1, min(N_IMAGES, len(files)), dtype=int)]
    return files, f'images in {folder}'


@call_parse
@one_screen
def main(
    run: str,  # folder of the run
    format: Annotated[str, {'choices': list(PACKAGES)}] = 'onnx',  # what to write
    out: str | None = None,  # file or folder to write to: model.onnx or model.safetensors in the run's folder
):
    """Write the model of a run as one file for other programs, and check that it says the same."""
    with ends_in_one_line('export.py'):
        print(printable(export(run, format, out)))
