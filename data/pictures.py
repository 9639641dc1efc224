"""Pictures that a run has drawn: read again as carefully as images, since the run may come from a stranger."""

from pathlib import Path

from fastai.vision.core import PILImage

from data.files import BadImage, read_image
from errors import printable


def read_picture(file: Path) -> PILImage | None:
    """The PNG `file` in RGB; None, with a line that says why, where it isn't one that can be used."""
    try:
        image = read_image(file)  # which waits for no pipe
        with file.open('rb') as f:
            if f.read(8) != b'\x89PNG\r\n\x1a\n':
                raise BadImage('not a PNG image')
        return image
    except BadImage as e:
        print(printable(f'{file} is left out: {e}'))
        return None
