"""Choose the recipe that suits the images and the hardware: `--recipe auto`."""

from contextlib import suppress
from pathlib import Path

from fastai.torch_core import default_device

from config.options import Config
from config.recipes import PLATEAU
from data.damage import check_entry, refusing
from data.limits import BadImage, opened
from data.listing import list_images
from data.sizes import choose_size
from data.sources import get_source
from runtime.processes import on_rank0

SAMPLE = 100  # training images, evenly spaced, whose sizes are read


@on_rank0
def auto_recipe(config: Config, arch_given: bool = False) -> str:
    """Return the name of the recipe for the images and the network of `config`, and print it with the reason.

    `arch_given`: the user named a network, perhaps the default one. Raises UserError as `get_source`,
    and for an unknown layout. Files that aren't images are left to `check_images`.
    """
    if config.data == 'digits':
        name, reason = 'plateau', 'its ResNet-18 trains on the bundled digits in minutes'
    elif not _are_small(config.data, config.size):
        name, reason = 'finetune', 'images of over 64 pixels or of several sizes; --recipe plateau trains from scratch'
    elif arch_given or config.recipe.arch != PLATEAU.arch or config.recipe.pretrained:
        name, reason = 'plateau', 'the recipes for CPUs have a network of their own'
    elif default_device().type != 'cpu':
        name, reason = 'plateau', 'small images and a GPU; --recipe hour has a smaller network'
    else:
        name, reason = 'speedrun', 'small images and no GPU; --recipe hour takes over twice as long for more accuracy'
    print(f'recipe {name}: {reason}')
    return name


def _are_small(data: str | Path, size: int | None) -> bool:
    """Whether images are trained unresized, by the sizes of a sample of the training images."""
    files = [file for files in list_images(get_source(data)).files['train'].values() for file in files]
    sizes = {}
    for file in files[:: max(1, len(files) // SAMPLE)]:
        with suppress(BadImage):
            check_entry(file)
            with refusing(), opened(file) as im:
                sizes[file] = im.size[::-1]
    return not choose_size(sizes, size)[1]
