import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastai.data.transforms import parent_label
from fastai.learner import Learner
from PIL import Image
from tiny import TINY, tiny_dls, write_images

from callbacks.set_epoch import EpochToLoader
from config.recipes import SPEEDRUN
from data.loaders import get_dls
from data.seeded_loader import batch_at
from runtime.errors import UserError


def epoch_of(dls, epoch):
    """All images and labels of one training epoch."""
    dls.train.epoch = epoch
    xs, ys = zip(*dls.train, strict=True)
    return torch.cat(xs), torch.cat(ys)


def test_splits_are_stratified_and_disjoint(folder):
    dls = tiny_dls(folder)
    for loader, n in zip(dls.loaders, (6, 2, 4), strict=True):  # per class
        assert Counter(map(parent_label, loader.dataset.items)) == {'red': n, 'green': n, 'blue': n}
    files = [f for loader in dls.loaders for f in loader.dataset.items]
    assert len(set(files)) == len(files) == 36
    assert {f.parents[1].name for f in dls[2].dataset.items} == {'test'}
    assert {f.parents[1].name for f in dls.valid_ds.items} == {'train'}


def test_split_follows_the_seed(folder):
    one, same, other = (set(tiny_dls(folder, seed=s).valid_ds.items) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_fraction_keeps_that_much_of_each_class(folder):
    dls = tiny_dls(folder, fraction=0.5)
    assert (len(dls.train_ds), len(dls.valid_ds), len(dls[2].dataset)) == (9, 3, 12)


def test_test_set_can_drive_validation(folder):
    dls = tiny_dls(folder, valid='test')
    assert list(dls.valid_ds.items) == list(dls[2].dataset.items)
    assert len(dls.train_ds) == 24


@pytest.mark.parametrize(('kwargs', 'message'), [
    ({'valid': 0.01}, 'valid 0.01 of 24 images is 0, fewer than the 3 classes: add images'),
    ({'fraction': 0.05}, 'fraction 0.05 of 24 images leaves a class without images'),
    ({'bs': 19}, 'bs 19 is more than the 18 training images'),
])  # fmt: skip
def test_too_few_images_give_an_error_of_one_line(folder, kwargs, message):
    with pytest.raises(UserError, match=message) as e:
        tiny_dls(folder, **kwargs)
    assert '\n' not in str(e.value)


@pytest.mark.slow
def test_zero_and_two_workers_give_equal_batches(folder):
    x0, y0 = epoch_of(tiny_dls(folder), 3)
    x2, y2 = epoch_of(tiny_dls(folder, num_workers=2), 3)
    assert torch.equal(x0, x2)
    assert torch.equal(y0, y2)


def test_draws_depend_on_seed_epoch_and_image_alone(folder):
    dls = tiny_dls(folder)
    x, y = epoch_of(dls, 1)
    dls.train.show_batch(show=False)  # earlier iterations don't matter
    epoch_of(dls, 0)
    x_again, y_again = epoch_of(dls, 1)
    assert torch.equal(x, x_again)
    assert torch.equal(y, y_again)
    assert not torch.equal(x, epoch_of(tiny_dls(folder, seed=1), 1)[0])


def test_an_images_draws_do_not_depend_on_its_place_in_the_epoch(folder):
    def by_image(dls, order):
        dls.train.epoch = 0
        images = batch_at(dls.train, order)[0]
        return [images[order.index(i)] for i in range(8)]

    forwards = by_image(tiny_dls(folder), [*range(8)])
    backwards = by_image(tiny_dls(folder, bs=7), [*range(17, -1, -1)])
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_no_two_epochs_repeat(folder):
    dls = tiny_dls(folder)
    orders, images = set(), set()
    for epoch in range(20):
        x, y = epoch_of(dls, epoch)
        orders.add(tuple(y.tolist()))
        images |= {im.numpy().tobytes() for im in x}
    assert len(orders) == 20
    # 18 images; the last incomplete batch of 2 is dropped. Each has 5 * 5 * 2 * 9 * 9 = 4,050 augmented versions and is
    # seen 18 times: 0.7 pairs of all images are equal on average, and more than 6 with a chance of 1e-5
    assert len(images) >= 20 * 16 - 6


def test_a_repeated_image_gets_new_draws(folder):
    dls = tiny_dls(folder)
    first, again, third = batch_at(dls.train, [0, 0, 0])[0]
    assert not torch.equal(first, again)
    assert not torch.equal(again, third)


def test_training_loop_sets_the_epoch(folder):
    dls, seen = tiny_dls(folder), []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))

    def loss(pred, y):
        seen.append((dls.train.epoch, pred.shape[0]))
        return torch.nn.functional.cross_entropy(pred, y)

    learn = Learner(dls, model, loss_func=loss, cbs=EpochToLoader(), path=folder)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
    assert [epoch for epoch, _ in seen] == 4 * [0] + 2 * [None] + 4 * [1] + 2 * [None]
    assert dls.train.epoch is None


def test_each_show_batch_gets_new_draws_from_the_seed(folder):
    dls = tiny_dls(folder)
    first, second = dls.one_batch()[0], dls.one_batch()[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, tiny_dls(folder).one_batch()[0])


def test_making_loaders_keeps_the_global_random_states(folder):
    np.random.seed(5)
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    tiny_dls(folder)
    assert np.random.rand() == np.random.RandomState(5).rand()
    assert torch.equal(torch.get_rng_state(), expected)


def test_a_fraction_may_leave_out_fewer_images_than_there_are_classes(folder):
    for fraction, n in (0.95, 23), (0.99, 24):
        assert len(tiny_dls(folder, fraction=fraction, valid='test').train_ds) == n


def test_a_class_of_one_image_cannot_be_split(folder):
    for file in sorted((folder / 'train/red').iterdir())[1:]:
        file.unlink()
    with pytest.raises(UserError, match=r'^valid 0\.25 of 17 images: red has only one image, which cannot be in both'):
        tiny_dls(folder)


def test_a_rare_class_that_a_fraction_loses_is_an_error(tmp_path):
    root = write_images(tmp_path / 'images', train=40)
    for file in sorted((root / 'train/red').iterdir())[2:]:
        file.unlink()
    with pytest.raises(UserError, match=r'fraction 0\.1 of 82 images leaves red without images'):
        tiny_dls(root, fraction=0.1)


def test_the_digits_get_their_own_recipe(monkeypatch, folder):
    from data import loaders
    from data.sources import find_images

    monkeypatch.setattr(loaders, 'find_images', lambda path, *args: find_images(folder, *args))
    dls = get_dls('digits', bs=4, valid=0.25)
    assert (dls.recipe.flip, dls.recipe.bs) == (0.0, 64)
    assert get_dls(folder, bs=4, valid=0.25).recipe.flip == 0.5


def test_files_left_out_are_named_with_the_reason(folder):
    (folder / 'train/red/broken.png').write_text('no image')
    assert [(file.name, reason) for file, reason in tiny_dls(folder, skip_bad=True).left_out] == [
        ('broken.png', 'not a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM image')
    ]


def test_true_colours_in_show_batch_and_test_dl(folder):
    dls = tiny_dls(folder)
    file = dls[2].dataset.items[0]
    pixels = np.asarray(Image.open(file)) / 255
    for dl in (dls[2], dls.test_dl([file])):
        _, _, samples = dl.show_batch(show=False, max_n=1)
        np.testing.assert_allclose(samples[0][0].permute(1, 2, 0), pixels, atol=1e-6)


def test_grey_and_16_bit_and_transparent_images_train_as_rgb(tmp_path):
    root = write_images(tmp_path / 'modes')
    for i, mode in enumerate(('L', 'P', 'RGBA', 'I;16')):
        Image.new(mode, (16, 16)).save(root / f'train/red/{i:02}.png')
    assert epoch_of(tiny_dls(root), 0)[0].shape == (16, 3, 16, 16)


def test_grey_and_transparent_pictures_are_predicted_as_rgb(folder):
    dls = tiny_dls(folder)
    for mode in ('L', 'RGBA', 'RGB'):
        (x,) = dls.test_dl([Image.new(mode, (16, 16), 'white')]).one_batch()
        assert x.shape == (1, 3, 16, 16)
        assert x.min() > 1  # white, normalised


def test_all_images_may_train_if_the_schedule_needs_no_validation(folder):
    dls = tiny_dls(folder, replace(TINY, schedule='triangle'), valid=0)
    assert (len(dls.train_ds), len(dls.valid_ds), len(dls[2].dataset)) == (24, 0, 12)
    assert len(dls.valid) == 0
    assert len(get_dls(folder, replace(SPEEDRUN, bs=4)).train_ds) == 24  # by default
    with pytest.raises(UserError, match='valid 0: this recipe lowers the learning rate by the validation loss'):
        tiny_dls(folder, valid=0)


def test_the_validation_set_of_the_folder_is_used(folder):
    write_images(folder / 'more', test=3)
    (folder / 'more/test').rename(folder / 'valid')
    shutil.rmtree(folder / 'more')
    dls = tiny_dls(folder, valid=None, fraction=0.5)
    assert [len(dl.dataset) for dl in dls.loaders] == [12, 9, 12]
    assert {f.parents[1].name for f in dls.valid_ds.items} == {'valid'}
    assert {f.parents[1].name for f in dls.train_ds.items} == {'train'}
    for valid in 0.1, 'test':
        with pytest.raises(UserError, match=rf'^--valid {valid}: .* has a validation set, 9 images; omit --valid$'):
            tiny_dls(folder, valid=valid)


def test_class_folders_alone_are_split_in_three_with_a_message(folder, capsys):
    dls = tiny_dls(folder / 'train')
    assert [len(dl.dataset) for dl in dls.loaders] == [14, 5, 5]
    assert capsys.readouterr().out == 'there is no test/: 5 of the 24 images are the test set, the same in every run\n'
    other = tiny_dls(folder / 'train', seed=7)
    assert list(other[2].dataset.items) == list(dls[2].dataset.items)
    assert list(other.valid_ds.items) != list(dls.valid_ds.items)
    assert dls.class_counts == Counter(map(parent_label, dls.train_ds.items))


@pytest.fixture
def large(tmp_path):
    """As `folder`, with images of two sizes, landscape and portrait."""
    for name, size in ('a', (72, 100)), ('b', (90, 50)):
        write_images(tmp_path / name, train=4, test=2, size=size)
    for file in sorted((tmp_path / 'b').rglob('*.png')):
        file.rename(tmp_path / 'a' / file.relative_to(tmp_path / 'b').with_stem(f'b{file.stem}'))
    return tmp_path / 'a'


def test_images_of_any_size_are_resized_with_a_message(large, capsys):
    dls = tiny_dls(large, size=48)
    assert (dls.size, [dl.one_batch()[0].shape for dl in dls.loaders]) == ((48, 48), 3 * [(4, 3, 48, 48)])
    assert capsys.readouterr().out == (
        'images are cropped and resized to 48x48, one by one (--size chooses another size)\n'
    )
    assert tiny_dls(large).size == (224, 224)
    x, y = epoch_of(dls, 1)
    assert torch.equal(x, epoch_of(tiny_dls(large, size=48), 1)[0])
    assert not torch.equal(x, epoch_of(dls, 2)[0])
    means = dls.train.decode_batch((x, y), max_n=4)
    assert all(image.mean((1, 2)).argmax() == ['red', 'green', 'blue'].index(label) for image, label in means)


@pytest.mark.slow
def test_zero_and_two_workers_resize_alike(large):
    batches = [epoch_of(tiny_dls(large, size=48, num_workers=n), 3)[0] for n in (0, 2)]
    assert torch.equal(*batches)


def test_predicted_images_may_have_any_size(large):
    dls = tiny_dls(large, size=48)
    for size in (48, 48), (20, 33), (500, 300):
        (x,) = dls.test_dl([Image.new('RGB', size, 'white')]).one_batch()
        assert x.shape == (1, 3, 48, 48)


def test_small_images_are_enlarged_for_a_pretrained_network(folder):
    assert tiny_dls(folder).size == (16, 16)
    assert tiny_dls(folder, replace(TINY, pretrained=True)).size == (224, 224)
    assert tiny_dls(folder, replace(TINY, pretrained=True), size=32).size == (32, 32)
