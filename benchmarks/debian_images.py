"""Two photo datasets other than CIFAR, from Debian packages, as folders for `--data`.

    apt-get install dataset-fashion-mnist tuxpaint-stamps-default
    python benchmarks/debian_images.py images

Without root: `apt-get download` both, unpack each with `dpkg-deb -x FILE DIR`, and pass `--share DIR/usr/share`.

`fashion-mnist`: 60,000 + 10,000 grey photographs of clothes, 28x28, in train/ and test/ (Zalando Research, MIT).
`stamps`: 268 photographs and some drawings, cut out, of different sizes, in class folders without a split; unbalanced.
"""

import gzip
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from runtime.progress import progress

# isort: split
import numpy as np
from fastcore.script import call_parse
from PIL import Image

CLOTHES = 'T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot'
STAMPS = 'animals', 'food', 'household', 'plants', 'vehicles'  # folders of mostly photographs


def fashion_mnist(share: Path, out: Path) -> None:
    """Write `out`/<split>/<class>/<index>.png from IDX files (http://yann.lecun.com/exdb/mnist)."""
    for split, name in ('train', 'train'), ('test', 't10k'):
        files = (share / f'datasets/fashion-mnist/{name}-{part}-ubyte.gz' for part in ('images-idx3', 'labels-idx1'))
        images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
        for cls in CLOTHES:
            (out / split / cls).mkdir(parents=True)
        pairs = zip(images[16:].reshape(-1, 28, 28), labels[8:], strict=True)
        for i, (image, label) in enumerate(progress(list(pairs), f'writing {split}')):
            Image.fromarray(image).save(out / split / CLOTHES[label] / f'{i:05}.png')


def stamps(share: Path, out: Path) -> None:
    """Write `out`/<class>/<name>.png, on white: transparent pixels have arbitrary colours in these files."""
    for cls in STAMPS:
        (out / cls).mkdir(parents=True)
        for file in sorted((share / 'tuxpaint/stamps' / cls).rglob('*.png')):
            if 'cartoon' not in file.parts:
                image = Image.open(file).convert('RGBA')
                white = Image.new('RGBA', image.size, 'white')
                Image.alpha_composite(white, image).convert('RGB').save(out / cls / file.name)


@call_parse
def main(
    out: Path,  # folder to write fashion-mnist/ and stamps/ to
    share: Path = Path('/usr/share'),  # folder of the packages' files
):
    """Write both datasets."""
    fashion_mnist(share, out / 'fashion-mnist')
    stamps(share, out / 'stamps')
