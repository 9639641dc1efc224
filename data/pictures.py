"""Read the pictures in a run folder as carefully as images: the run may come from a stranger."""

from pathlib import Path

from fastai.vision.core import PILImage

from data.decode import read_image
from data.limits import BadImage
from runtime.errors import printable


def read_picture(file: Path) -> PILImage | None:
    """Read the PNG `file` as RGB; if it can't be used, print the reason and return None."""
    try:
        image = read_image(file)  # before `open`, which would wait for a pipe
        with file.open('rb') as f:
            if f.read(8) != b'\x89PNG\r\n\x1a\n':
                raise BadImage('not a PNG image')
        return image
    except BadImage as e:
        print(printable(f'{file} is left out: {e}'))
        return None
