"""Photographs are decoded and shrunk once; batches have the pixels that an independent computation has."""

import json
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY, tiny_dls, write_images

from data import check_files, examine, photographs, pixel_cache
from data.antialias import shrink
from data.augment import get_transforms
from data.decode import open_rgb
from data.prediction import unseen_dls
from data.sizes import Plan, shrunk, side_to_keep
from runtime.errors import UserError
from training.saved_run import load_model

SIZE, SIDE = 32, 55  # 32 / sqrt(0.35) = 54.1
RECIPE = replace(TINY, hole=0.0)

pytestmark = pytest.mark.usefixtures('kept')


@pytest.fixture
def folder(tmp_path):
    """JPEGs of 70x90 and 400x240, PNGs of 40x50: larger than needed, decoded at a quarter, and kept as they are."""
    root = write_images(tmp_path / 'images', train=6, test=3, size=(50, 40))
    for file in sorted(root.rglob('*.png')):
        i = int(file.stem) % 3
        if i:
            large = Image.open(file).resize(((70, 90), (400, 240))[i - 1], Image.Resampling.BICUBIC)
            large.save(file.with_suffix('.jpg'), quality=90)
            file.unlink()
    return root


@pytest.fixture
def loaders(folder):
    return partial(tiny_dls, folder, RECIPE, size=SIZE)


@pytest.fixture
def decoded(monkeypatch):
    """The files that are decoded, in order."""
    seen, check, read = [], check_files.check_file, photographs.open_shrunk
    monkeypatch.setattr(check_files, 'check_file', lambda file, *args: seen.append(file) or check(file, *args))
    monkeypatch.setattr(photographs, 'open_shrunk', lambda file, *args: seen.append(file) or read(file, *args))
    return seen


def no_room(monkeypatch):
    monkeypatch.setattr(examine, 'SHARE', 0)


def batches(dl):
    return torch.cat([x.as_subclass(torch.Tensor) for x, *_ in dl])


def all_batches(dls):
    dls.train.epoch = 3
    return [batches(dl) for dl in dls.loaders]


def assert_same(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def stream(dls):
    return dls.train.epoch_rng(3).getrandbits(32)


def in_order(dls):
    """The training images in the order of epoch 3."""
    dls.train.epoch = 3
    dls.train.before_iter()
    idxs = dls.train.get_idxs()
    return [(i, dls.train_ds.items[i]) for i in idxs][: len(idxs) // 4 * 4]


@pytest.mark.parametrize('kept', [True, False])
def test_batches_have_the_pixels_of_an_independent_computation(loaders, monkeypatch, kept):
    if not kept:
        no_room(monkeypatch)
    dls = loaders()
    x, valid, test = all_batches(dls)
    compose, centre = get_transforms(RECIPE, (SIZE, SIZE), True, 'cached-1')

    def kept_pixels(file):
        image = Image.open(file)
        image.draft(None, (SIDE, SIDE))
        image = np.asarray(image.convert('RGB'))
        return shrink(image, SIDE) if min(image.shape[:2]) > SIDE else image

    for (i, file), got in zip(in_order(dls), x, strict=True):
        key = ((42 << 32 | stream(dls)) << 32 | i) << 32
        compose.set_random_state(np.random.default_rng(key), random.Random(str(key)))
        assert torch.equal(got, compose(image=kept_pixels(file))['image'])
    for dl, batch in (dls.valid, valid), (dls[2], test):
        for file, got in zip(dl.dataset.items, batch, strict=True):
            assert torch.equal(got, centre(image=kept_pixels(file))['image'])


def test_earlier_runs_keep_their_pixels(loaders):
    """A file is decoded at no less than twice the size, its crop resized with INTER_AREA, keyed by four numbers."""
    dls = loaders(pixels='direct')
    x, valid, _ = all_batches(dls)
    compose, centre = get_transforms(RECIPE, (SIZE, SIZE), True)
    assert compose.transforms[0].area_for_downscale == centre.transforms[0].area_for_downscale == 'image'
    for (i, file), got in zip(in_order(dls), x, strict=True):
        key = 42, stream(dls), i, 0
        compose.set_random_state(np.random.default_rng(key), random.Random(str(key)))
        assert torch.equal(got, compose(image=np.asarray(open_rgb(file, 2 * SIZE)))['image'])
    for file, got in zip(dls.valid_ds.items, valid, strict=True):
        assert torch.equal(got, centre(image=np.asarray(open_rgb(file, 2 * SIZE)))['image'])


def test_each_file_is_decoded_once(loaders, decoded):
    first = all_batches(loaders())
    assert len(decoded) == 27
    assert_same(all_batches(loaders()), first)
    assert len(decoded) == 27


def test_another_size_decodes_what_it_needs(loaders, decoded):
    """Images of 40x50 are kept as they are for every size up to 50 / 0.59; the larger ones are shrunk anew."""
    first = all_batches(loaders())
    decoded.clear()
    loaders(size=36)
    assert {file.suffix for file in decoded} == {'.jpg'}
    assert len(decoded) == 18
    assert_same(all_batches(loaders()), first)
    assert len(decoded) == 36
    loaders(pixels='direct')
    assert len(decoded) == 36  # the cache stays for the next run
    assert_same(all_batches(loaders()), first)
    assert len(decoded) == 36


def test_a_changed_file_is_noticed(loaders, decoded, monkeypatch):
    dls = loaders()
    file = dls[2].dataset.items[1]
    before, new = all_batches(dls)[2], Image.new('RGB', (80, 70), 'white')
    new.save(file)
    decoded.clear()
    after = all_batches(loaders())[2]
    assert decoded == [file]
    assert [i for i in range(9) if not torch.equal(before[i], after[i])] == [1]
    assert after[1].min() > 1  # white, normalised
    no_room(monkeypatch)
    dls = loaders()
    file.write_bytes(b'')
    with pytest.raises(UserError, match='has changed since it was checked: '):
        batches(dls[2])


@pytest.mark.parametrize(('name', 'value', 'said'), [
    ('SHARE', 0, r'all take 0\.0 GiB, over 0% of memory'),
    ('DISK', 0, r'all take 0\.0 GiB, over 0% of the free disk'),
])  # fmt: skip
def test_without_room_the_same_pixels_are_decoded_in_each_epoch(
    loaders, kept, decoded, monkeypatch, capsys, name, value, said
):
    expected = all_batches(loaders())
    for file in kept.iterdir():
        file.unlink()
    decoded.clear()
    capsys.readouterr()
    monkeypatch.setattr(examine, name, value)
    for starts in 1, 2:
        assert_same(all_batches(loaders()), expected)
        out = capsys.readouterr().out
        assert out.count('\n') == 2  # the other line tells the size
        assert f'images are decoded in each epoch: {said}'.replace('\\', '') in out
        assert len(pixel_cache.load_cache(loaders().path).mapped.pixels) == 0
        assert len(decoded) == 27 + 25 * starts  # the checks, and epochs: training drops the last 2 of 14 images
        capsys.readouterr()


def test_on_a_full_disk_the_same_pixels_are_decoded_in_each_epoch(loaders, kept, monkeypatch, capsys):
    expected = all_batches(loaders())

    def full(path):
        raise OSError(28, 'No space left on device', str(path))

    monkeypatch.setattr(pixel_cache, 'replacing', full)
    for file in kept.iterdir():
        file.unlink()
    capsys.readouterr()
    assert_same(all_batches(loaders()), expected)
    assert capsys.readouterr().out.count('images are decoded in each epoch: [Errno 28] No space left on device') == 1


@pytest.mark.parametrize('kept', [True, False])
@pytest.mark.slow
def test_workers_make_the_same_batches(loaders, monkeypatch, kept):
    if not kept:
        no_room(monkeypatch)
    assert_same(all_batches(loaders(num_workers=2)), all_batches(loaders()))


def test_an_item_is_its_row_of_the_batch(loaders):
    dl = loaders().train
    dl.epoch = 3
    x = next(iter(dl))[0]
    dl.before_iter()
    items = [dl.do_item(i)[0] for i in dl.get_idxs()[:4]]
    colours = dl.after_batch.fs[0].decodes(x) * 255
    for item, colour in zip(items, colours, strict=True):
        assert item.dtype == torch.uint8
        torch.testing.assert_close(item.float(), colour, atol=1e-3, rtol=0, check_dtype=False)


def test_small_images_of_several_sizes_are_enlarged(tmp_path):
    """They are kept in planes, as images that train as they are."""
    root = write_images(tmp_path / 'small', size=(20, 30))
    for i, file in enumerate(sorted(root.rglob('*.png'))):
        Image.open(file).resize((16 + i, 40)).save(file)
    dls = tiny_dls(root, RECIPE)
    assert (dls.size, dls.resized) == ((224, 224), True)
    centre = get_transforms(RECIPE, (224, 224), True, 'cached-1')[1]
    for file, got in zip(dls[2].dataset.items, batches(dls[2]), strict=True):
        assert torch.equal(got, centre(image=np.asarray(Image.open(file)))['image'])


@pytest.mark.parametrize('pixels', ['direct', 'cached-1'])
def test_predictions_see_the_pixels_of_validation(loaders, pixels):
    dls = loaders(pixels=pixels)
    files = dls[2].dataset.items
    unseen = unseen_dls(RECIPE, dls.vocab, dls.size, True, pixels)
    assert torch.equal(batches(unseen.test_dl(files)), batches(dls[2]))
    assert torch.equal(batches(dls.test_dl(files)), batches(dls[2]))
    pngs = [i for i, file in enumerate(files) if file.suffix == '.png']
    loaded = [Image.open(files[i]).convert('RGB') for i in pngs]
    assert torch.equal(batches(unseen.test_dl(loaded)), batches(dls[2])[pngs])


def test_a_run_keeps_its_way(run, folder, tmp_path):
    new = load_model(run)
    assert new.dls.pixels == 'cached-1'
    saved = json.loads((run / 'config.json').read_text())
    assert saved['options'].pop('pixels') == 'cached-1'
    (run / 'config.json').write_text(json.dumps(saved))
    assert load_model(run).dls.pixels == 'direct'


def test_an_unknown_way_is_refused(loaders):
    with pytest.raises(UserError, match=r"^pixels 'cached': this version only knows 'direct' and 'cached-1'$"):
        loaders(pixels='cached')


def test_a_plan_keeps_small_images_whole_and_shrinks_others():
    assert [side_to_keep(224, scale) for scale in (0.35, 0.08, 1.0)] == [379, 792, 256]
    assert [shrunk((300, 400), side) for side in (150, 300, 500, 0)] == [(150, 200), *3 * [(300, 400)]]
    plan, small, large = Plan(None, 379), (40, 64), (600, 800)
    assert [plan.side_for(size) for size in (small, large)] == [0, 379]
    assert [Plan().side_for(size) for size in (small, large)] == [0, None]
    assert [Plan(224, 379).side_for((n, n)) for n in (40, 224, 600)] == [379, 0, 379]
    assert plan.bytes([small, large, large]) == 3 * (40 * 64 + 2 * 379 * 505)
    assert plan.matches(large, 379)
    assert not plan.matches(large, 380)
    assert plan.matches((300, 400), 350)  # as it is, for both
    assert not plan.matches((300, 400), 0)  # in planes
    assert not Plan().matches(large, 379)
