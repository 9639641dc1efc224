import os
from collections import Counter

import numpy as np
import pytest
from fastai.vision.core import PILImage
from PIL import Image

from data.decode import check_file, open_rgb
from data.verify import BadImages, check_images, write_bad_images
from runtime.errors import UserError

NO_IMAGE = 'not a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM image'


def save(file, size=(16, 16), color=(10, 20, 30), mode='RGB', **kwargs):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(file, **kwargs)
    return file


@pytest.fixture
def folder(tmp_path):
    """Two classes, each with one training and one test image of 16x16."""
    for file in 'train/cat/a', 'train/dog/a', 'test/cat/b', 'test/dog/b':
        save(tmp_path / f'{file}.png')
    return tmp_path


def refusal(folder, **kwargs):
    with pytest.raises(UserError) as e:
        check_images(folder, **kwargs)
    message = str(e.value)
    assert '\n' not in message
    return message.replace(str(folder), 'DATA')


def test_listing_is_sorted_and_complete(tmp_path):
    for name in 'train/b/2', 'train/b/10', 'train/a/z', 'train/a/y', 'test/b/0', 'test/a/0':
        save(tmp_path / f'{name}.png', size=(24, 18))
    images = check_images(tmp_path)
    assert [str(f.relative_to(tmp_path)) for f in images.train] == [
        'train/a/y.png',
        'train/a/z.png',
        'train/b/10.png',
        'train/b/2.png',
    ]
    assert images.test == [tmp_path / 'test/a/0.png', tmp_path / 'test/b/0.png']
    assert (images.path, images.classes, images.size, images.bad) == (tmp_path, ['a', 'b'], (18, 24), [])


def test_hidden_files_and_files_outside_classes_are_ignored(folder):
    for name in 'train/cat/.DS_Store', '.hidden', 'labels.txt', 'train/README':
        (folder / name).write_text('no image')
    (folder / 'train/.cache').mkdir()
    images = check_images(folder)
    assert (len(images.train), len(images.test), images.bad) == (2, 2, [])


@pytest.mark.parametrize('layout', ['.', 'train', 'test'])
def test_leftovers_of_systems_and_notebooks_are_ignored(tmp_path, layout):
    for i in range(5):
        for name in 'cat', 'dog':
            for split in ('',) if layout == '.' else ('train/', 'test/'):
                save(tmp_path / f'{split}{name}/{i}.png')
    clean = check_images(tmp_path)
    home = tmp_path / layout
    for folder in '__MACOSX', 'lost+found', '@eaDir', '.ipynb_checkpoints', '#recycle', '$RECYCLE.BIN', '__pycache__':
        save(home / folder / 'cat' / '0.png')
    for file in 'Thumbs.db', 'desktop.ini', '.DS_Store', '._0.png', 'Icon\r':
        for folder in home, home / 'cat':
            (folder / file).write_text('no image')
    assert check_images(tmp_path) == clean


def run_folder(path, *files):
    for file in files or ('config.json', 'models/best.pth', 'history.csv', 'report.html'):
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()
    save(path / 'plots/augmented/cat.png')


@pytest.mark.parametrize('make', [
    lambda path: run_folder(path / 'runs/one'),
    lambda path: [run_folder(path / 'runs/one'), (path / 'runs/log.txt').touch(), (path / 'runs/more').mkdir()],
    lambda path: run_folder(path / 'one'),  # --out .
    lambda path: run_folder(path / 'runs/notebook-2026', 'history.csv', 'models/last.pth'),  # from `fit` in a notebook
    lambda path: run_folder(path / 'train/cat/runs/one') if (path / 'train').exists() else run_folder(path / 'cat/r/1'),
    lambda path: [(path / 'runs').mkdir(), (path / 'runs/bad_images.csv').touch()],  # before --skip-bad
    lambda path: [(path / 'models').mkdir(), (path / 'models/model.pth').touch()],  # fastai's learn.save
])  # fmt: skip
@pytest.mark.parametrize('splits', [('',), ('train/', 'test/')])
def test_runs_among_the_images_are_ignored(tmp_path, make, splits):
    for split in splits:
        for i in range(5):
            for name in 'cat', 'dog':
                save(tmp_path / f'{split}{name}/{i}.png')
    clean = check_images(tmp_path)
    make(tmp_path)
    assert check_images(tmp_path) == clean


def test_a_class_with_images_is_never_taken_for_a_run(tmp_path):
    for name in 'cat', 'models', 'runs':
        for i in range(5):
            save(tmp_path / f'{name}/{i}.png')
    (tmp_path / 'models/a.pth').touch()
    (tmp_path / 'cat/bad_images.csv').touch()
    (tmp_path / 'cat/config.json').touch()
    run_folder(tmp_path / 'runs/one')
    images = check_images(tmp_path, skip_bad=True)
    assert images.classes == ['cat', 'models', 'runs']
    assert len(images.train + images.test) == 15


def test_a_class_without_images(folder):
    (folder / 'test/dog/b.png').unlink()
    assert refusal(folder) == 'DATA/test/dog has no image: add some, or move the class out of train/ and test/'


def test_a_folder_with_a_validation_set(folder):
    for name in 'cat', 'dog':
        save(folder / f'val/{name}/c.png')
    images = check_images(folder)
    assert images.valid == [folder / 'val/cat/c.png', folder / 'val/dog/c.png']
    assert (len(images.train), len(images.test), images.notes) == (2, 2, [])


def test_class_folders_alone_give_a_fifth_of_each_class_to_the_test_set(tmp_path):
    for name, n in ('cat', 20), ('dog', 10):
        for i in range(n):
            save(tmp_path / f'{name}/{i:02}.png')
    images = check_images(tmp_path)
    assert Counter(f.parent.name for f in images.test) == {'cat': 4, 'dog': 2}
    assert sorted(images.train + images.test) == sorted(tmp_path.rglob('*.png'))
    assert (images.valid, images.classes) == ([], ['cat', 'dog'])
    assert [note[:17] for note in images.notes] == ['there is no test/']
    assert check_images(tmp_path).test == images.test


def test_class_folders_too_small_for_a_test_set(tmp_path):
    for i in range(3):
        save(tmp_path / f'cat/{i}.png')
        save(tmp_path / f'dog/{i}.png')
    assert refusal(tmp_path).startswith('a test set of 20% of 6 images is 1, fewer than the 2 classes: add images')
    for i in range(3, 60):
        save(tmp_path / f'cat/{i}.png')
    (tmp_path / 'dog/2.png').unlink()
    assert refusal(tmp_path) == 'DATA/dog has too few images for a test set of 20%: add some'
    for i in range(60):
        (tmp_path / f'cat/{i}.png').unlink()
    assert refusal(tmp_path) == f'DATA/cat has no image: add some, or move the class out of {tmp_path.name}/'


def test_images_of_many_sizes_are_resized(folder):
    save(folder / 'test/cat/c.png', size=(300, 200))
    images = check_images(folder)
    assert (images.size, images.resized, len(images.test), images.bad) == ((224, 224), True, 3, [])
    images = check_images(folder, size=48)
    assert (images.size, images.resized) == ((48, 48), True)


@pytest.mark.parametrize('size', [(15, 16), (16, 15)])
def test_images_too_small(tmp_path, size):
    for name in 'train/a/0', 'train/b/0', 'test/a/0', 'test/b/0':
        save(tmp_path / f'{name}.png', size=size)
    assert refusal(tmp_path).startswith(
        f"4 files of DATA can't be used: test/a/0.png ({size[0]}x{size[1]}, less than 16 pixels), "
    )


def test_the_size_of_a_large_photograph_is_that_of_the_upright_image(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated
    for ext in 'jpg', 'png':
        save(folder / f'test/cat/large.{ext}', size=(1037, 518), exif=exif)
        assert check_file(folder / f'test/cat/large.{ext}')[0] == (1037, 518)


def test_one_bad_file(folder):
    (folder / 'train/cat/notes.txt').write_text('no image')
    assert refusal(folder) == (
        f"1 file of DATA can't be used: train/cat/notes.txt ({NO_IMAGE}); move them elsewhere or pass --skip-bad"
    )


@pytest.fixture
def bad(folder):
    """`folder` with a bad file of each kind: {path: expected reason}, in order."""
    cat = folder / 'train/cat'
    rng = np.random.default_rng(0)
    for ext in 'jpg', 'png':
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(cat / f'cut.{ext}')
        data = (cat / f'cut.{ext}').read_bytes()
        (cat / f'cut.{ext}').write_bytes(data[: len(data) * 3 // 4])
    (cat / 'empty.png').touch()
    save(cat / 'float.tif', mode='F', color=0.5)
    (cat / 'folder.png').mkdir()
    os.mkfifo(cat / 'pipe.png')
    (cat / 'text.jpg').write_text('no image')
    return {
        cat / 'cut.jpg': 'truncated',
        cat / 'cut.png': 'truncated',
        cat / 'empty.png': 'empty',
        cat / 'float.tif': '32-bit pixels of unknown range',
        cat / 'folder.png': 'a folder, not a file',
        cat / 'pipe.png': 'a pipe, socket or device, not a file',
        cat / 'text.jpg': NO_IMAGE,
    }


def test_bad_files_are_counted_and_the_first_three_named(folder, bad):
    assert refusal(folder) == (
        "7 files of DATA can't be used: train/cat/cut.jpg (truncated), train/cat/cut.png (truncated), "
        'train/cat/empty.png (empty), ...; move them elsewhere or pass --skip-bad'
    )


def test_the_error_has_the_full_list(folder, bad, tmp_path):
    with pytest.raises(BadImages) as e:
        check_images(folder)
    assert e.value.bad == list(bad.items())
    table = write_bad_images(tmp_path / 'new', e.value.bad)
    rows = [f'"{file}","{reason}"' for file, reason in bad.items()]
    assert table.read_text() == '\n'.join(['"file","reason"', *rows, ''])
    assert [*table.parent.iterdir()] == [table]


def test_a_few_images_of_another_size_are_bad_files(folder):
    for i in range(14):  # 18 of 20 have one size: 90%
        save(folder / f'train/cat/more{i}.png')
    save(folder / 'train/dog/dot.png', size=(1, 1))
    save(folder / 'test/dog/line.png', size=(2000, 1))
    assert refusal(folder) == (
        "2 files of DATA can't be used: test/dog/line.png (2000x1, the others are 16x16), train/dog/dot.png "
        '(1x1, the others are 16x16); move them elsewhere or pass --skip-bad, or --size, which resizes all'
    )
    images = check_images(folder, skip_bad=True)
    assert (len(images.train), len(images.test), len(images.bad), images.size) == (16, 2, 2, (16, 16))
    save(folder / 'train/dog/third.png', size=(1, 1))
    reasons = [reason for _, reason in check_images(folder, skip_bad=True).bad]
    assert reasons == ['2000x1, less than 16 pixels', *2 * ['1x1, less than 16 pixels']]


def test_the_message_stays_on_one_line_for_any_name(folder):
    (folder / 'train/cat/a\nb\x1b[2J\udcff ü.png').touch()
    assert "can't be used: train/cat/a\\nb\\x1b[2J\\udcff ü.png (empty); " in refusal(folder)
    write_bad_images(folder, check_images(folder, skip_bad=True).bad)
    assert b'a\nb\x1b[2J\xff \xc3\xbc.png","empty"\n' in (folder / 'bad_images.csv').read_bytes()


def test_skip_bad_leaves_them_out_and_says_why(folder, bad):
    images = check_images(folder, skip_bad=True)
    assert images.bad == list(bad.items())
    assert images.train == [folder / 'train/cat/a.png', folder / 'train/dog/a.png']


def test_skip_bad_never_empties_a_class(folder):
    (folder / 'test/dog/b.png').write_text('no image')
    assert refusal(folder, skip_bad=True).startswith('DATA/test/dog has no image: ')


def test_a_decompression_bomb_is_a_bad_file(folder, monkeypatch):
    save(folder / 'train/cat/bomb.png', size=(20, 20))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 300)  # Pillow only warns of 400 pixels
    ((file, reason),) = check_images(folder, skip_bad=True).bad
    assert file.name == 'bomb.png'
    assert 'decompression bomb' in reason


def test_a_flipped_bit_in_a_png_is_noticed(folder):
    file = folder / 'train/cat/a.png'
    data = bytearray(file.read_bytes())
    data[data.index(b'IDAT') + 12] ^= 1
    file.write_bytes(data)
    assert refusal(folder).startswith("1 file of DATA can't be used: train/cat/a.png (")


def test_no_progress_bar_without_a_terminal(folder, capsys):
    check_images(folder)
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('mode', 'color', 'ext', 'rgb'),
    [
        ('RGB', (1, 2, 3), 'png', (1, 2, 3)),
        ('L', 77, 'png', (77, 77, 77)),
        ('1', 1, 'png', (255, 255, 255)),
        ('LA', (77, 0), 'png', (77, 77, 77)),
        ('RGBA', (200, 100, 50, 0), 'png', (200, 100, 50)),
        ('I;16', 0x1234, 'png', (0x12, 0x12, 0x12)),
        ('I;16', 0xFFFF, 'tif', (255, 255, 255)),
        ('I;16B', 0x1234, 'tif', (0x12, 0x12, 0x12)),
        # each channel is (255 - ink) * (255 - black) / 255: 255 * .8, 155 * .8, 0 * .8
        ('CMYK', (0, 100, 255, 51), 'tif', (204, 124, 0)),
    ],
)
def test_open_rgb_converts(tmp_path, mode, color, ext, rgb):
    im = open_rgb(save(tmp_path / f'a.{ext}', mode=mode, color=color, size=(2, 3)))
    assert type(im) is PILImage
    assert (im.mode, im.size) == ('RGB', (2, 3))
    np.testing.assert_array_equal(np.asarray(im), np.broadcast_to(np.array(rgb, np.uint8), (3, 2, 3)))


@pytest.mark.filterwarnings('error')
def test_open_rgb_resolves_palettes_and_drops_their_transparency(tmp_path):
    im = Image.new('P', (2, 1))
    im.putpalette([1, 2, 3, 40, 50, 60])
    im.putpixel((1, 0), 1)
    im.save(tmp_path / 'a.png', transparency=bytes([0, 128]))
    np.testing.assert_array_equal(np.asarray(open_rgb(tmp_path / 'a.png')), [[[1, 2, 3], [40, 50, 60]]])


def test_open_rgb_turns_upright(tmp_path):
    im = Image.new('RGB', (2, 1), (255, 0, 0))
    im.putpixel((1, 0), (0, 0, 255))  # red, blue from left to right
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turned by 90 degrees clockwise when shown
    im.save(tmp_path / 'a.png', exif=exif)
    np.testing.assert_array_equal(np.asarray(open_rgb(tmp_path / 'a.png')), [[[255, 0, 0]], [[0, 0, 255]]])


def test_open_rgb_decodes_a_large_jpeg_at_a_fraction_of_its_size(tmp_path):
    file = save(tmp_path / 'a.jpg', size=(1000, 801))
    sizes = {shorter: open_rgb(file, shorter).size for shorter in (None, 401, 400, 200, 100, 1)}
    assert sizes == {
        None: (1000, 801), 401: (1000, 801), 400: (500, 401), 200: (250, 201), 100: (125, 101), 1: (125, 101),
    }  # fmt: skip
    assert open_rgb(save(tmp_path / 'a.png', size=(1000, 801)), 100).size == (1000, 801)  # JPEG only
