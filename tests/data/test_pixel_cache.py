import os
import pickle
import shutil
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
from PIL import Image
from tiny import write_images

from data import pixel_cache
from data.examine import examine
from data.pixel_cache import Cache, load_cache, write_cache
from data.sizes import Plan
from runtime.errors import UserError

SIZE = 16, 16

pytestmark = pytest.mark.usefixtures('kept')


@pytest.fixture
def files(folder):
    return sorted(folder.glob('*/*/*.png'))


def expected(files):
    return np.stack([np.asarray(Image.open(file)).transpose(2, 0, 1) for file in files])


def assert_decoded(folder, files):
    """Examine the files, and return the folder's only cache."""
    images = examine(folder, files, Plan()).pixels(files, SIZE)
    np.testing.assert_array_equal(images[list(range(len(files)))], expected(files))
    return images.mapped.file


def test_images_come_in_the_order_of_the_files(folder, files, kept):
    file = assert_decoded(folder, files)
    assert [*kept.iterdir()] == [file]  # no half-written file
    rows = examine(folder, files, Plan()).pixels([files[5], files[3], files[9]], SIZE)
    np.testing.assert_array_equal(rows[[2, 0]], expected([files[9], files[5]]))


def test_another_pillow_version_decodes_again(folder, files, monkeypatch):
    assert_decoded(folder, files)
    assert len(load_cache(folder).good) == 36
    monkeypatch.setattr(pixel_cache.PIL, '__version__', '0.1')
    assert load_cache(folder) == Cache()
    assert_decoded(folder, files)


@pytest.mark.parametrize('name', ['antialias', 'check_files', 'damage', 'decode', 'jpeg', 'limits', 'sizes'])
def test_other_checks_check_again(folder, files, tmp_path, monkeypatch, name):
    assert_decoded(folder, files)
    shutil.copytree(pixel_cache.HERE, tmp_path / 'data')
    code = [tmp_path / 'data' / file.name for file in pixel_cache.CODE]
    monkeypatch.setattr(pixel_cache, 'HERE', tmp_path / 'data')
    monkeypatch.setattr(pixel_cache, 'CODE', code)
    assert len(load_cache(folder).good) == 36
    with (tmp_path / f'data/{name}.py').open('a') as f:
        f.write('\n')
    assert load_cache(folder) == Cache()


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


def one_bit_of_an_offset(file, other):
    content = file.read_bytes()
    changed = content.replace(b', 768, 0]', b', 868, 0]')
    assert changed != content
    file.write_bytes(changed)


def foreign(file, other):
    shutil.copy(other, file)  # complete, but of other images


def no_archive(file, other):
    file.write_text('hello')


def a_folder(file, other):
    file.unlink()
    file.mkdir()


def again(file, change, compression=0):
    """Write the archive again, with a `change` of {name: content} and valid checksums."""
    with ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with ZipFile(file, 'w', compression) as archive:
        for name, data in {**content, **change(content)}.items():
            archive.writestr(name, data)


def another_table(file, other):
    again(file, lambda content: {'results.json': b'[]'})


def a_pickle(file, other):
    again(file, lambda content: {'results.json': pickle.dumps(Path('x'))})  # must not be unpickled


def compressed(file, other):
    again(file, lambda content: {}, ZIP_DEFLATED)


@pytest.mark.parametrize(
    'damage',
    [cut_off, cut_off_by_half, empty, one_bit, one_bit_of_an_offset, foreign, no_archive, another_table, a_pickle,
     compressed],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_written_again(folder, files, tmp_path, damage):
    file = assert_decoded(folder, files)
    good, other = file.read_bytes(), write_images(tmp_path / 'other')
    for i, image in enumerate(other.glob('*/*/*.png')):
        Image.new('RGB', SIZE, (i, 0, 0)).save(image)
    damage(file, assert_decoded(other, sorted(other.glob('*/*/*.png'))))
    assert file.read_bytes() != good
    assert assert_decoded(folder, files) == file
    assert file.read_bytes() == good


def test_every_changed_byte_is_noticed(folder, files):
    file = assert_decoded(folder, files)
    good, cache = file.read_bytes(), load_cache(folder)
    rng = np.random.default_rng(0)
    for i in [*range(100), *rng.integers(0, len(good), 200), *range(len(good) - 200, len(good))]:
        file.write_bytes(good[:i] + bytes([good[i] ^ 1 << rng.integers(8)]) + good[i + 1 :])
        found = load_cache(folder)
        if found.good:  # a byte that nothing reads, like a date
            assert (found.good, found.bad) == (cache.good, cache.bad)
            np.testing.assert_array_equal(found.mapped.pixels, cache.mapped.pixels)


def test_a_worker_opens_the_file_itself(folder, files):
    images = examine(folder, files, Plan()).pixels(files, SIZE)
    assert images[[0]].shape == (1, 3, 16, 16)
    sent = pickle.dumps(images)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent)[[4]], images[[4]])
    files[0].unlink()
    examine(folder, files[1:], Plan())
    with pytest.raises(UserError, match=r'\.zip has changed: another run has found other images; start again$'):
        pickle.loads(sent)
    np.testing.assert_array_equal(images[[4]], expected([files[4]]))  # still mapped


def test_images_without_pixels(folder):
    results = [('a', (300, 200), None, 0), ('b', 'truncated', None, 0)]
    written, again = write_cache(folder, results), load_cache(folder)
    assert [written.result(content) for content in 'ab'] == [again.result(content) for content in 'ab'] == results
    assert len(again.mapped.pixels) == 0


def test_images_of_several_sizes(folder):
    pixels = [bytes(range(100, 118)), None, bytes(range(6)), bytes(range(50, 56))]
    results = [
        ('a', (2, 3), pixels[0], 0), ('b', (9, 9), None, 0), ('c', (4, 8), pixels[2], 1), ('d', (2, 1), pixels[3], 2),
    ]  # fmt: skip
    write_cache(folder, results)
    cache = load_cache(folder)
    assert cache.good == {'a': [2, 3, 0, 0], 'b': [9, 9, None, 0], 'c': [4, 8, 18, 1], 'd': [2, 1, 24, 2]}
    assert [cache.result(content)[2].tobytes() for content in 'acd'] == [pixels[0], *pixels[2:]]


def test_two_runs_that_start_at_once(folder, files):
    """The second finds and writes other images while the first is still writing."""

    def results():
        yield 'a', (1, 1), b'abc', 0
        assert_decoded(folder, files)
        yield 'b', (1, 1), b'def', 0

    first = write_cache(folder, results())
    assert first.mapped.pixels.tobytes() == b'abcdef'
    assert load_cache(folder).good == {'a': [1, 1, 0, 0], 'b': [1, 1, 3, 0]}  # the last one stays
    assert_decoded(folder, files)
    assert first.mapped.pixels.tobytes() == b'abcdef'


def test_files_that_nothing_needs_are_removed(folder, files, tmp_path, kept):
    kept.mkdir(parents=True)
    older = kept / f'{64 * "0"}-pillow11.3.npy'
    older.touch()
    copy = shutil.copytree(folder, tmp_path / os.fsdecode(b'caf\xe9'))
    one, other = assert_decoded(folder, files), assert_decoded(copy, sorted(copy.glob('*/*/*.png')))
    assert {*kept.iterdir()} == {one, other}
    shutil.rmtree(copy)
    (kept / 'damaged.zip').touch()
    files[0].unlink()
    assert assert_decoded(folder, files[1:]) == one  # one file for each folder of images
    assert {*kept.iterdir()} == {one, kept / 'damaged.zip'}
