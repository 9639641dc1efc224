import os
import resource
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_dls

from data import check_files, examine, pixel_cache
from data.verify import check_images

SIZE = 16, 16

pytestmark = pytest.mark.usefixtures('kept')


@pytest.fixture
def files(folder):
    return sorted(folder.glob('*/*/*.png'))


@pytest.fixture
def checked(monkeypatch):
    """The files that are checked and decoded, in order."""
    seen, check = [], check_files.check_file
    monkeypatch.setattr(check_files, 'check_file', lambda file, *args: seen.append(file) or check(file, *args))
    return seen


def flip_a_byte(file, at=-20):
    """Change a byte, but neither the size nor the times of `file`."""
    content, before = bytearray(file.read_bytes()), file.stat()
    content[at] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def assert_same_pixels(folder, images=None):
    images = images or check_images(folder)
    files = images.train + images.test
    pixels = images.checked.pixels(files, images.size)[list(range(len(files)))]
    np.testing.assert_array_equal(pixels, np.stack([np.asarray(Image.open(f)).transpose(2, 0, 1) for f in files]))


def test_images_are_checked_and_decoded_once(folder, files, checked):
    first = check_images(folder)
    assert checked == [*sorted(f for f in files if 'train' in f.parts), *sorted(f for f in files if 'test' in f.parts)]
    second = check_images(folder)
    assert len(checked) == 36
    assert first == second
    for images in first, second:
        assert_same_pixels(folder, images)


def test_a_changed_byte_is_found(folder, files, checked):
    """In a PNG it breaks a checksum; in a BMP only the pixels tell."""
    image = Image.open(files[3])
    files[3].unlink()
    image.save(files[3].with_suffix('.bmp'))
    before = check_images(folder)
    checked.clear()
    flip_a_byte(files[3].with_suffix('.bmp'))
    assert check_images(folder) == before
    assert checked == [files[3].with_suffix('.bmp')]
    assert_same_pixels(folder)
    flip_a_byte(files[5])
    bad = check_images(folder, skip_bad=True).bad
    assert [file for file, _ in bad] == [files[5]]
    assert bad[0][1].startswith('damaged (')
    assert len(checked) == 2


def test_a_removed_file_is_left_out(folder, files, checked):
    check_images(folder)
    checked.clear()
    files[0].unlink()
    images = check_images(folder)
    assert {*images.train, *images.test} == {*files[1:]}
    assert len(pixel_cache.load_cache(folder).good) == 35
    assert_same_pixels(folder, images)
    assert checked == []


def test_a_new_or_renamed_or_copied_file_is_found(folder, files, checked):
    check_images(folder)
    checked.clear()
    new = folder / 'train/red/new.png'
    Image.new('RGB', SIZE, (1, 2, 3)).save(new)
    renamed = files[0].rename(folder / 'train/red/renamed.png')
    copied = folder / 'train/red/copied.png'
    copied.write_bytes(files[1].read_bytes())
    images = check_images(folder)
    assert {*images.train, *images.test} == {*files[1:], new, renamed, copied}
    assert_same_pixels(folder, images)
    assert checked == [new]


def test_reasons_of_bad_files_are_remembered(folder, checked):
    cat = folder / 'train/red'
    (cat / 'cut.png').write_bytes((cat / '00.png').read_bytes()[:-100])
    (cat / 'text.jpg').write_text('no image')
    Image.new('F', SIZE).save(cat / 'float.tif')
    first = check_images(folder, skip_bad=True)
    assert len(first.bad) == 3
    assert len(checked) == 39
    assert check_images(folder, skip_bad=True) == first
    assert len(checked) == 39


def test_what_is_no_file_is_checked_each_time(folder):
    """A pipe has the content of an empty file, but another reason."""
    red = folder / 'train/red'
    (red / 'empty.png').touch()
    os.mkfifo(red / 'pipe.png')
    (red / 'folder.png').mkdir()
    (red / 'loop.png').symlink_to('loop.png')
    expected = {'empty.png': 'empty', 'folder.png': 'a folder, not a file', 'loop.png': 'a broken link',
                'pipe.png': 'a pipe, socket or device, not a file'}  # fmt: skip
    for _ in range(2):
        images = check_images(folder, skip_bad=True)
        assert {file.name: reason for file, reason in images.bad} == expected
    os.remove(red / 'loop.png')
    (red / 'loop.png').symlink_to('00.png')
    os.remove(red / 'pipe.png')
    (red / 'pipe.png').touch()
    bad = {file.name: reason for file, reason in check_images(folder, skip_bad=True).bad}
    assert bad == {'empty.png': 'empty', 'folder.png': 'a folder, not a file', 'pipe.png': 'empty'}


def test_another_size_decodes_what_is_missing(folder, checked):
    """At 224 pixels small images are resized, so their pixels aren't needed; 16 keeps them as they are."""
    check_images(folder, size=224)
    assert len(checked) == 36
    assert_same_pixels(folder, check_images(folder, size=16))
    assert len(checked) == 72
    for size in 224, 16, None:
        check_images(folder, size=size)
    assert len(checked) == 72


def test_images_of_one_large_size(folder, files):
    """JPEGs of 300 pixels are checked at half the size, but trained at the whole size."""
    for i, file in enumerate(files):
        file.unlink()
        Image.effect_mandelbrot((300, 300), (-2, -1.5, 1 + i / 99, 1.5), 20).convert('RGB').save(
            file.with_suffix('.jpg')
        )
    images = check_images(folder, size=300)
    assert (images.size, images.resized) == ((300, 300), False)
    assert_same_pixels(folder, images)


def test_pixels_of_a_few_other_sizes_do_not_shift_the_rest(folder, files):
    for i, size in (2, (17, 16)), (9, (16, 20)), (35, (40, 64)):
        Image.new('RGB', size).save(files[i])
    for _ in range(2):
        images = check_images(folder, skip_bad=True)
        assert [file for file, _ in images.bad] == [files[2], files[9], files[35]]
        assert_same_pixels(folder, images)


def test_images_too_large_for_memory_are_not_cached(folder, files, kept, checked, monkeypatch, capsys):
    need = 36 * 3 * 16 * 16
    monkeypatch.setattr(examine, 'total_memory', lambda: 4 * need - 1)
    for _ in range(2):
        assert tiny_dls(folder).train.pixels is None
        assert capsys.readouterr().out == 'images are decoded in each epoch: all take 0.0 GiB, over 25% of memory\n'
        assert len(pixel_cache.load_cache(folder).mapped.pixels) == 0
    assert len(checked) == 36
    monkeypatch.setattr(examine, 'total_memory', lambda: 4 * need)
    assert_same_pixels(folder)
    assert len(checked) == 72


@pytest.mark.parametrize('limit', [0, 5000, 29_000])
def test_images_are_not_cached_on_a_full_disk(folder, files, kept, monkeypatch, capsys, limit):
    """A limit on the size of files raises the same exception, but for its number, while or after pixels are written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        dls = tiny_dls(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert dls.train.pixels is None
    out = capsys.readouterr().out
    assert out.startswith('images are decoded in each epoch: [Errno 27] File too large')
    assert out.count('\n') == 1
    assert Counter(f.suffix for f in kept.iterdir()) in (Counter(), Counter({'.zip': 1}))
    assert dls.one_batch()[0].shape == (4, 3, 16, 16)
    assert_same_pixels(folder)


def test_an_unusable_home_is_no_error(folder, monkeypatch, capsys):
    def unusable(name):
        raise NotADirectoryError(20, 'Not a directory', '/dev/null/x')

    expected = check_images(folder)
    monkeypatch.setattr('data.pixel_cache.fastai_path', unusable)
    assert check_images(folder) == expected
    assert tiny_dls(folder).train.pixels is None
    assert 'images are decoded in each epoch: [Errno 20] Not a directory' in capsys.readouterr().out


def test_a_home_that_can_only_be_read_is_used(folder, files, checked, monkeypatch, capsys):
    def read_only(path):
        raise OSError(30, 'Read-only file system', str(path))

    check_images(folder)
    monkeypatch.setattr(pixel_cache, 'replacing', read_only)
    assert tiny_dls(folder).train.pixels is not None
    assert capsys.readouterr().out == ''
    files[0].unlink()
    assert tiny_dls(folder).train.pixels is None
    assert capsys.readouterr().out.startswith('images are decoded in each epoch: [Errno 30] Read-only file system')
    assert len(checked) == 36


def test_an_error_of_the_check_itself_is_raised(folder, monkeypatch):
    def no_fork(*args):
        raise BlockingIOError(11, 'Resource temporarily unavailable')
        yield

    monkeypatch.setattr(examine, 'check_files', no_fork)
    with pytest.raises(BlockingIOError):
        check_images(folder)
