import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from fastai.data.external import fastai_cfg
from PIL import Image
from tiny import tiny_dls, write_images

from data import pixel_cache
from data.pixel_cache import Pixels, decoded

SIZE = 16, 16


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder of decoded images, in a temporary home."""
    monkeypatch.setenv('FASTAI_HOME', str(tmp_path / 'home'))
    fastai_cfg.cache_clear()
    yield tmp_path / 'home/data/pixels'
    fastai_cfg.cache_clear()


@pytest.fixture
def files(folder):
    return sorted(folder.glob('*/*/*.png'))


def expected(files):
    return np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])


def assert_decoded(folder, files):
    file = decoded(folder, files, SIZE)
    images = Pixels(file, np.arange(len(files)))
    np.testing.assert_array_equal(images[list(range(len(files)))], expected(files))
    return file


def test_images_come_in_the_order_of_the_files(folder, files, kept):
    file = assert_decoded(folder, files)
    assert [*kept.iterdir()] == [file]  # no half-written file
    rows = Pixels(file, np.array([5, 3, 9]))
    np.testing.assert_array_equal(rows[[2, 0]], expected([files[9], files[5]]))


def test_images_are_decoded_once(folder, files, monkeypatch):
    file = assert_decoded(folder, files)
    monkeypatch.setattr(pixel_cache, 'open_rgb', None)
    assert decoded(folder, files, SIZE) == file


def test_a_changed_image_is_decoded_again(folder, files):
    file = assert_decoded(folder, files)
    before = files[3].stat()
    Image.new('RGB', SIZE, (1, 2, 3)).save(files[3])
    os.utime(files[3], ns=(before.st_atime_ns, before.st_mtime_ns))  # same time as before
    assert assert_decoded(folder, files) != file


def test_another_pillow_version_decodes_again(folder, files, monkeypatch):
    file = assert_decoded(folder, files)
    monkeypatch.setattr(pixel_cache.PIL, '__version__', '0.1')
    assert assert_decoded(folder, files) != file


def cut_off(file, other):
    os.truncate(file, file.stat().st_size - 1)


def cut_off_by_half(file, other):
    os.truncate(file, file.stat().st_size // 2)


def empty(file, other):
    os.truncate(file, 0)


def one_bit(file, other):
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)


def foreign(file, other):
    shutil.copy(other, file)  # complete and of the same shape, but of other images


def no_array(file, other):
    file.write_text('hello')


def another_shape(file, other):
    with file.open('wb') as f:
        np.save(f, np.zeros((2, 3), np.uint8))


def objects(file, other):
    with file.open('wb') as f:
        np.save(f, np.array([Path('x')]), allow_pickle=True)  # must not be unpickled


@pytest.mark.parametrize(
    'damage',
    [cut_off, cut_off_by_half, empty, one_bit, foreign, no_array, another_shape, objects],
    ids=lambda f: f.__name__,
)
def test_a_damaged_or_foreign_file_is_written_again(folder, files, tmp_path, damage):
    file = assert_decoded(folder, files)
    good, other = file.read_bytes(), write_images(tmp_path / 'other')
    for image in other.glob('*/*/*.png'):
        Image.new('RGB', SIZE).save(image)
    damage(file, decoded(other, sorted(other.glob('*/*/*.png')), SIZE))
    assert file.read_bytes() != good
    assert assert_decoded(folder, files) == file
    assert file.read_bytes() == good


def test_many_images_are_decoded_by_several_processes(folder, files, monkeypatch):
    monkeypatch.setattr(pixel_cache, 'CHUNK', 5)
    assert_decoded(folder, files)


def test_images_too_large_for_memory_are_not_cached(folder, files, kept, monkeypatch, capsys):
    need = 36 * 3 * 16 * 16
    monkeypatch.setattr(pixel_cache, '_memory', lambda: 4 * need - 1)
    assert decoded(folder, files, SIZE) is None
    assert capsys.readouterr().out == 'images are decoded in each epoch: all take 0.0 GiB, over 25% of memory\n'
    assert not kept.exists()
    monkeypatch.setattr(pixel_cache, '_memory', lambda: 4 * need)
    assert_decoded(folder, files)


def test_images_of_other_sizes_are_not_cached(folder, files, kept, capsys):
    Image.new('RGB', (16, 17)).save(files[7])
    assert decoded(folder, files, SIZE) is None
    assert capsys.readouterr().out == f'images are decoded in each epoch: {files[7]} differs in size from the rest\n'
    assert [*kept.iterdir()] == []


def test_images_are_not_cached_on_a_full_disk(folder, files, monkeypatch, capsys):
    monkeypatch.setattr(
        pixel_cache, '_write', lambda *args: (_ for _ in ()).throw(OSError(28, 'No space left on device'))
    )
    assert decoded(folder, files, SIZE) is None
    assert 'No space left on device' in capsys.readouterr().out


def test_a_worker_opens_the_file_itself(folder, files):
    images = Pixels(decoded(folder, files, SIZE), np.arange(36))
    assert images[[0]].shape == (1, 3, 16, 16)
    sent = pickle.dumps(images)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent)[[4]], images[[4]])


def test_loaders_print_why_images_are_decoded_in_each_epoch(folder, monkeypatch, capsys):
    monkeypatch.setattr(pixel_cache, '_memory', lambda: 0)
    dls = tiny_dls(folder)
    assert 'over 25% of memory' in capsys.readouterr().out
    assert dls.train.pixels is None
    assert dls.one_batch()[0].shape == (4, 3, 16, 16)


def test_a_full_disk_is_reported_and_images_are_decoded_in_each_epoch(folder, monkeypatch, capsys):
    def full(descriptor, offset, length):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.posix_fallocate', full)
    files = sorted(folder.rglob('*.png'))
    assert decoded(folder, files, (16, 16)) is None
    assert 'images are decoded in each epoch: [Errno 28] No space left on device' in capsys.readouterr().out


def test_an_unusable_home_is_no_error(folder, monkeypatch, capsys):
    def unusable(name):
        raise NotADirectoryError(20, 'Not a directory', '/dev/null/x')

    monkeypatch.setattr('data.pixel_cache.fastai_path', unusable)
    assert decoded(folder, sorted(folder.rglob('*.png')), (16, 16)) is None
    assert 'images are decoded in each epoch: ' in capsys.readouterr().out
