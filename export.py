"""Write the model of a run as one file for other programs: `python export.py --help`."""

from own_modules import refuse_hidden_modules

refuse_hidden_modules()

from config.command_line import export_parser
from runtime.errors import exit_on_interrupt

PACKAGES = {'onnx': ('onnxruntime', 'onnxscript'), 'safetensors': ('safetensors',)}

if __name__ == '__main__':
    exit_on_interrupt('export.py')
    OPTIONS = vars(export_parser(list(PACKAGES)).parse_args())  # before PyTorch is imported, which takes seconds

import os
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from json import dumps, loads
from os.path import expanduser
from pathlib import Path

import numpy as np
import torch
from fastai.vision.all import Learner, fastai_path
from torch import Tensor

from config.recipes import Recipe
from config.saved import read_config
from data.listing import list_images
from data.prediction import batches, probabilities
from data.sources import get_source
from models.build import get_model
from models.classifier import Classifier
from runtime.errors import UserError, ends_in_one_line, printable
from runtime.files import replacing
from training.saved_run import load_model

N_IMAGES = 100
TOLERANCE = 1e-4  # maximum difference of a probability from the Learner's


def export(run: str | Path, format: str, out: str | Path | None = None) -> str:
    """Write the model of `run` to `out` (default: model.`format` in `run`) and return one line on how it was checked.

    The file's probabilities on 100 images must equal the Learner's to 1e-4. Raises UserError, and leaves no file, if
    they differ, if the network can't be written in this format, or if a package is missing.
    """
    if missing := [package for package in PACKAGES[format] if find_spec(package) is None]:
        raise UserError(f'--format {format} needs {" and ".join(missing)}: pip install {" ".join(missing)}')
    learn = load_model(run, torch.device('cpu'))  # a GPU would round to bf16
    saved = read_config(learn.path)
    path = Path(expanduser(out)) if out else learn.path
    if path.is_dir() or str(out).endswith(('/', os.sep)):
        path /= f'model.{format}'
    x, whose = _images(learn, saved.config.data)
    (decoded,) = learn.dls.valid.after_item.decode((x,))
    pixels, bs = (255 * decoded).round().byte().as_subclass(Tensor), learn.dls.valid.bs
    write = {'onnx': write_onnx, 'safetensors': write_safetensors}[format]
    with replacing(path) as part:
        theirs = write(learn, part)
        pairs = zip(pixels.split(bs), x.split(bs), strict=True)
        worst = torch.stack([(theirs(o) - probabilities(learn, batch)).abs().max() for o, batch in pairs]).max().item()
        if not worst <= TOLERANCE:
            raise UserError(f'{path} is not written: its probabilities would differ by {worst:.2g} from the Learner')
    return f'{path}: its probabilities differ by at most {worst:.1g} from the Learner on {len(x)} {whose}'


def write_onnx(learn: Learner, file: Path) -> Callable[[Tensor], Tensor]:
    """Write the `Classifier` of `learn` for any batch size; return a function that runs the file."""
    from onnxruntime import InferenceSession

    example = torch.zeros(2, 3, *learn.dls.size, dtype=torch.uint8)
    try:
        model, any_batch = Classifier(learn.model, learn.recipe).eval(), ({0: torch.export.Dim('n')},)
        names = {'input_names': ['images'], 'output_names': ['probabilities']}
        program = torch.onnx.export(model, (example,), dynamo=True, dynamic_shapes=any_batch, verbose=False, **names)
    except torch.onnx.errors.OnnxExporterError as e:
        raise UserError(f"torch can't write {learn.recipe.arch} as ONNX: use --format safetensors") from e
    program.model.metadata_props.update(_about(learn))
    program.save(file, external_data=False)
    session = InferenceSession(file, providers=['CPUExecutionProvider'])
    return lambda pixels: torch.from_numpy(session.run(None, {'images': pixels.numpy()})[0])


def write_safetensors(learn: Learner, file: Path) -> Callable[[Tensor], Tensor]:
    """Write the weights of `learn`; return the `Classifier` rebuilt from the file's header and weights."""
    from safetensors import safe_open
    from safetensors.torch import save

    weights = {name: tensor.contiguous() for name, tensor in learn.model.state_dict().items()}  # not channels last
    file.write_bytes(save(weights, {'format': 'pt', **_about(learn)}))
    with safe_open(file, 'pt') as f:
        about, weights = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118, not a dict
    recipe = Recipe.from_dict(loads(about['recipe']))
    model = get_model(recipe, len(loads(about['classes'])), loads(about['size']), load=False)
    model.load_state_dict(weights)
    return torch.no_grad()(Classifier(model, recipe).eval())


def _about(learn: Learner) -> dict[str, str]:
    recipe = learn.recipe
    about = {'classes': list(learn.dls.vocab), 'size': learn.dls.size, 'mean': recipe.mean, 'std': recipe.std}
    about |= {'architecture': recipe.arch, 'recipe': asdict(recipe)}
    return {name: dumps(value) for name, value in about.items()}


def _images(learn: Learner, data: str) -> tuple[Tensor, str]:
    """The network's input for 100 of the run's images, or for random ones, and a description of their source."""
    files, whose = _files(data)
    if found := [x for good, x, _ in batches(learn, files) if good]:
        return torch.cat(found), whose
    noise = np.random.default_rng(0).integers(0, 256, (N_IMAGES, *learn.dls.size, 3), dtype=np.uint8)
    x = torch.cat([x for _, x, _ in batches(learn, list(noise))])
    return x, "random images, since the run's were not found"


def _files(data: str) -> tuple[list[Path], str]:
    """Up to 100 test images of the run's data, else of its classes, and their source; none if the data is missing."""
    try:
        path = fastai_path('data') / 'cifar10' if data == 'cifar10' else get_source(data)
        listing = list_images(path)
    except (UserError, OSError):
        return [], ''
    *_, last = listing.files
    files = [file for files in listing.files[last].values() for file in files]
    files = [files[i] for i in np.linspace(0, len(files) - 1, min(N_IMAGES, len(files)), dtype=int)]
    return files, f'images in {listing.places[last]}'


def main(run: str, format: str = 'onnx', out: str | None = None) -> None:
    """Write the model of `run` in this `format`; SystemExit for an error."""
    with ends_in_one_line('export.py'):
        print(printable(export(run, format, out)))


if __name__ == '__main__':
    main(**OPTIONS)
