import json
import random
from collections import deque
from dataclasses import replace

import albumentations as A
import numpy as np
import pytest
import torch
import yaml
from fastai.vision.core import PILImage
from tiny import TINY, tiny_dls, write_images

from config.recipe import Recipe
from config.recipes import PLATEAU, SPEEDRUN
from data.augment import AlbumentationsTransform, get_transforms
from data.batched_loader import BatchedDL
from data.own_augment import READY, as_text, load_augment, read_augment
from runtime.errors import UserError

SIZE = 16, 24  # height, width
FLIPS = A.Compose([A.VerticalFlip(p=1.0)])


def image(*shape):
    return PILImage.create(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))


def trained_on(own, x, key=0, resize=False, recipe=PLATEAU):
    """The colours that training sees of the image `x`, from 0 to 255."""
    t = AlbumentationsTransform(*get_transforms(recipe, SIZE, resize, own=own))
    t.key = (key,)
    return t.decode(t(x, split_idx=0)).permute(1, 2, 0).numpy() * 255


def test_own_transforms_replace_the_recipes(folder):
    x = image(*SIZE)
    np.testing.assert_allclose(trained_on(FLIPS, x), np.asarray(x)[::-1], atol=1e-3)
    _, valid = get_transforms(PLATEAU, SIZE, own=FLIPS)
    assert [type(t) for t in valid.transforms] == [A.Normalize, A.ToTensorV2]


def test_photographs_are_cropped_first_unless_the_transforms_do_it():
    rows, cols = np.mgrid[:200, :240]
    ramp = PILImage.create(np.stack([rows, cols, rows], -1).astype(np.uint8))  # the value tells where a pixel is from
    ours = [trained_on(FLIPS, ramp, key, resize=True) for key in range(9)]
    assert {x.shape for x in ours} == {(*SIZE, 3)}
    assert all(x[0, 0, 0] > x[-1, 0, 0] for x in ours)  # upside down
    assert len({x[0, 0, 0] for x in ours}) > 3
    corner = A.Compose([A.PadIfNeeded(*SIZE), A.Crop(0, 0, SIZE[1], SIZE[0])])
    np.testing.assert_allclose(trained_on(corner, ramp, resize=True), np.asarray(ramp)[:16, :24], atol=1e-3)


def test_a_chain_with_a_probability_keeps_it():
    own, x = A.Compose([A.VerticalFlip(p=1.0)], p=0.5), image(*SIZE)
    flipped = [np.allclose(trained_on(own, x, key), np.asarray(x)[::-1], atol=1e-3) for key in range(64)]
    assert 16 < sum(flipped) < 48  # 4 deviations


@pytest.mark.parametrize('name', list(READY))
def test_ready_ones_draw_by_the_key_alone(name):
    x = image(*SIZE)
    first = [trained_on(load_augment(name), x, key) for key in range(20)]
    again = [trained_on(load_augment(name), x, key) for key in reversed(range(20))][::-1]
    assert np.array_equal(first, again)
    assert len({o.tobytes() for o in first}) > 15
    assert {o.shape for o in first} == {(*SIZE, 3)}
    assert trained_on(load_augment(name), image(90, 50), resize=True).shape == (*SIZE, 3)


def test_what_can_be_batched_is(folder, capsys):
    dls = tiny_dls(folder, augment=A.Compose([A.HorizontalFlip(p=1.0)]))
    assert isinstance(dls.train, BatchedDL)
    x, _ = dls.train.one_batch()
    assert x.shape == (4, 3, 16, 16)
    capsys.readouterr()
    dls = tiny_dls(folder, augment='light')
    assert 'augmenting image by image: ColorJitter has no batched version\n' in capsys.readouterr().out
    assert not isinstance(dls.train, BatchedDL)
    dls.train.epoch = 0
    first, again = ([x for x, _ in dls.train] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_recipe_keeps_the_transforms(folder):
    own = A.Compose([A.OneOf([A.VerticalFlip(p=1.0), A.Transpose(p=1.0)], p=0.5), A.CoarseDropout(p=1.0)])
    recipe = tiny_dls(folder, augment=own).recipe
    assert recipe == replace(TINY, augment=as_text(own))
    again = Recipe.from_dict(json.loads(json.dumps(recipe.__dict__)))
    x = np.asarray(image(16, 16))
    for key in range(9):
        results = []
        for compose in own, load_augment(again.augment):
            compose.set_random_state(np.random.default_rng(key), random.Random(key))
            results.append(compose(image=x)['image'])
        assert np.array_equal(*results)


@pytest.mark.parametrize('name', ['a.json', 'a.yaml', 'a.YML'])
def test_albumentations_own_files_are_read(tmp_path, name):
    A.save(FLIPS, tmp_path / name, data_format='json' if 'json' in name else 'yaml')
    text = read_augment(str(tmp_path / name))
    assert read_augment(str(tmp_path / name)) == text == as_text(FLIPS)
    A.save(A.VerticalFlip(p=1.0), tmp_path / name, data_format='json' if 'json' in name else 'yaml')
    x = np.asarray(image(*SIZE))
    assert np.array_equal(load_augment(read_augment(str(tmp_path / name)))(image=x)['image'], x[::-1])


def saved(*transforms):
    return {'__version__': '2.0.8', 'transform': {'__class_fullname__': 'Compose', 'p': 1.0, 'transforms': transforms}}


def named(name, **values):
    return {'__class_fullname__': name, 'p': 1.0, **values}


@pytest.mark.parametrize(('content', 'said'), [
    (saved(named('os.system', command='touch x')), "os.system is not one of Albumentations' transforms"),
    (saved(named('cv2')), "cv2 is not one of Albumentations' transforms"),
    (saved(named('Lambda', image='x')), 'Lambda needs more than one image to transform'),
    (saved(named('TextImage', font_path='/etc/passwd')), 'TextImage needs more than one image to transform'),
    (saved(named('FDA', reference_images=['/etc/passwd'])), 'FDA needs more than one image to transform'),
    (saved(named('BasicTransform')), "BasicTransform is not one of Albumentations' transforms"),
    (saved(named('HubMixin')), "HubMixin is not one of Albumentations' transforms"),
    (saved(named('OneOf', transforms=[named('eval')])), "eval is not one of Albumentations' transforms"),
    (saved(named('Normalize')), 'Normalize is added to the transforms: leave it out'),
    (saved(named('ToTensorV2')), 'ToTensorV2 is added to the transforms: leave it out'),
    (saved(named('VerticalFlip', always=1)), 'always'),  # an argument that Albumentations ignores
    (saved(named('Rotate', limit='far')), 'limit'),
    (saved(named('VerticalFlip'), 3), 'TypeError'),
    (saved(*[named('VerticalFlip')] * 9000), 'more than 10,000 values'),
    ({'transform': {}}, 'KeyError'),
    ([1], 'TypeError'),
    (3, 'TypeError'),
])  # fmt: skip
def test_a_file_can_name_nothing_but_transforms_of_an_image(tmp_path, content, said, folder):
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(content))
    with pytest.raises(UserError) as e:
        read_augment(str(file))
    assert said in str(e.value)
    assert '\n' not in str(e.value)
    assert str(e.value).startswith(f'{file} is not a valid file of Albumentations transforms (')
    with pytest.raises(UserError) as e:  # as in a stranger's config.json
        tiny_dls(folder, replace(TINY, augment=json.dumps(content)))
    assert said in str(e.value)
    assert '\n' not in str(e.value)


@pytest.mark.parametrize('text', [
    '!!python/object/apply:os.system ["touch {}"]', '{', 'a: b: c', '- x\n' * 3, '\x00',
    'a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n'
    + ''.join(f'{n}: &{n} [{", ".join(["*" + m] * 9)}]\n' for m, n in zip('bcdefgh', 'cdefghi', strict=True)),
])  # fmt: skip
def test_yaml_runs_nothing_and_ends_in_one_line(tmp_path, text):
    file = tmp_path / 'a.yaml'
    file.write_text(text.replace('{}', str(tmp_path / 'made')))
    with pytest.raises(UserError, match=r'a\.yaml is not a valid file') as e:
        read_augment(str(file))
    assert '\n' not in str(e.value)
    assert not (tmp_path / 'made').exists()
    assert yaml.safe_dump(saved())  # the library is there


@pytest.mark.parametrize(('own', 'said'), [
    (A.Compose([A.Normalize()]), 'into other than 8-bit RGB: leave out Normalize and ToTensorV2, which are added'),
    (A.Compose([A.ToTensorV2()]), 'into other than 8-bit RGB: leave out Normalize and ToTensorV2, which are added'),
    (A.Compose([A.Resize(20, 20)]), 'an image of 16x16 pixels (height x width) into 20x20'),
    (A.Compose([A.Resize(20, 20, p=0.5)]), 'into images of several sizes'),
    (A.Compose([A.RandomCrop(99, 99)]), 'into an error (CropSizeError: '),
])  # fmt: skip
def test_transforms_that_do_not_give_images_of_the_size_are_refused(folder, own, said):
    with pytest.raises(UserError) as e:
        tiny_dls(folder, augment=own)
    assert str(e.value).startswith('augment: the transforms turn ')
    assert said in str(e.value)
    assert '\n' not in str(e.value)


def test_neither_a_name_nor_a_file(tmp_path):
    with pytest.raises(
        UserError, match=r'^--augment .*soup: there is no such file, nor is it one of recipe, light, st'
    ):
        read_augment(str(tmp_path / 'soup'))
    assert [read_augment(name) for name in ('recipe', 'light', 'strong')] == ['recipe', 'light', 'strong']


def test_a_run_keeps_the_content_of_the_file(tmp_path, command, monkeypatch):
    learners = []
    monkeypatch.setattr('train_fastai.finish', lambda learn, *args, **kwargs: learners.append(learn))
    images, file = write_images(tmp_path / 'images'), tmp_path / 'a.json'
    A.save(FLIPS, file)
    options = {'out': tmp_path, 'bs': 4, 'recipe': 'speedrun'}
    code, _, err = command(data=images, augment=file, name='r', **options)
    assert (code, err) == (0, '')
    text = json.loads((tmp_path / 'r/config.json').read_text())['recipe']['augment']
    assert text == as_text(FLIPS)
    assert command(resume=tmp_path / 'r', augment=file)[0] == 0
    file.unlink()
    assert command(resume=tmp_path / 'r')[0] == 0
    assert [learn.recipe.augment for learn in learners] == [text] * 3
    code, _, err = command(resume=tmp_path / 'r', augment='light')
    assert (code, '--augment light: ' in err) == (2, True)


def test_transforms_that_need_large_images_come_after_the_random_crop():
    """RandomCrop fails on an image that is smaller than its crop."""
    small = PILImage.create(np.zeros((10, 90, 3), np.uint8))
    own = A.Compose([A.RandomCrop(*SIZE)])
    assert trained_on(own, small, resize=True).shape == (*SIZE, 3)


def test_test_time_views_and_alternating_flips_are_the_recipes_alone(folder, tmp_path):
    turned = replace(SPEEDRUN, augment=as_text(FLIPS))
    assert turned.views == {'flip': False, 'shift': True}
    for name in 'recipe', 'light', as_text(A.Compose([A.HorizontalFlip()])):
        assert replace(SPEEDRUN, augment=name).views == {'flip': True, 'shift': True}
    flipped = replace(SPEEDRUN, augment=as_text(A.Compose([A.HorizontalFlip(p=1.0)])))
    assert not tiny_dls(folder, flipped, valid=0).train.alternating_flip
    assert tiny_dls(folder, SPEEDRUN, valid=0).train.alternating_flip


def test_images_of_several_sizes_are_refused_in_training(tmp_path):
    photographs = write_images(tmp_path / 'photographs', size=(70, 90))
    dls = tiny_dls(photographs, size=32, augment=A.Compose([A.RandomScale((-0.5, -0.4), p=0.01)]))
    batches = (batch for _ in range(200) for batch in dls.train)
    with pytest.raises(UserError, match=r'^augment: the transforms make images of several sizes'):
        deque(batches, 0)
