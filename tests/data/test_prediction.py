import numpy as np
import pytest
import torch
from fastai.learner import load_learner
from fastai.vision.core import PILImage
from PIL import ExifTags, Image
from tiny import TINY, tiny_dls, write_images

from data.limits import BadImage
from data.prediction import unseen_dls
from training.saved_run import load_model


def test_images_are_treated_as_in_validation(run, folder):
    theirs, files = tiny_dls(folder), sorted((folder / 'test').rglob('*.png'))
    expected = torch.cat([x for x, _ in theirs[2]])
    dls = load_model(run).dls
    got = torch.cat([x for (x,) in dls.test_dl(files)])
    assert torch.equal(got.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))
    assert list(dls.vocab) == list(theirs.vocab)
    assert [len(dl.dataset) for dl in dls.loaders] == [0, 0]


def test_images_of_any_size_are_treated_as_in_validation(run, tmp_path):
    for i, size in enumerate(((40, 70), (90, 50))):
        write_images(tmp_path / f'{i}', size=size)
    images = tmp_path / '0'
    for file in (tmp_path / '1/test').rglob('*.png'):
        Image.open(file).save(images / 'test' / file.parent.name / f'larger{file.stem}.jpg')
    theirs, files = tiny_dls(images, size=32), sorted((images / 'test').rglob('*.*'))
    expected = torch.cat([x for x, _ in theirs[2]])
    got = torch.cat([x for (x,) in unseen_dls(TINY, theirs.vocab, theirs.size, theirs.resized).test_dl(files)])
    assert got.shape == (24, 3, 32, 32)
    assert torch.equal(got.as_subclass(torch.Tensor), expected.as_subclass(torch.Tensor))


def test_every_form_of_an_image_is_predicted_alike_also_by_an_exported_learner(run, folder):
    learn, file = load_model(run), folder / 'test/red/00.png'
    label, index, expected = learn.predict(file)
    assert label == ['blue', 'green', 'red'][index]
    assert expected.sum() == pytest.approx(1)
    for same in (str(file), file.read_bytes(), np.asarray(Image.open(file)), PILImage.create(file)):
        assert torch.equal(learn.predict(same)[2], expected)
    learn.export()
    torch.testing.assert_close(load_learner(run / 'export.pkl').predict(file)[2], expected)


def test_an_unusable_file_is_refused_with_the_reason(run, tmp_path):
    (tmp_path / 'x.png').write_bytes(b'')
    with pytest.raises(BadImage, match=r'^empty$'):
        load_model(run).predict(tmp_path / 'x.png')


@pytest.mark.parametrize(('name', 'content', 'said'), [
    ('a.png', b'', '^empty$'),
    ('a.eps', b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', '^not a JPEG, PNG'),
])  # fmt: skip
def test_bytes_are_checked_like_a_file(run, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    for item in (tmp_path / name, content):
        with pytest.raises(BadImage, match=said):
            load_model(run).predict(item)


def test_bytes_of_a_photo_are_turned_upright_like_the_file(run, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'a.png', exif=exif)
    learn = load_model(run)
    assert torch.equal(learn.predict((tmp_path / 'a.png').read_bytes())[2], learn.predict(tmp_path / 'a.png')[2])


def test_images_of_another_size_are_resized_as_by_the_learner_that_was_trained(run, folder, learner, tmp_path):
    Image.open(folder / 'test/red/00.png').resize((40, 30)).save(tmp_path / 'large.png')
    trained, loaded = learner(), load_model(run)
    loaded.model.load_state_dict(trained.model.state_dict())
    expected = trained.predict(tmp_path / 'large.png')[2]
    torch.testing.assert_close(loaded.predict(tmp_path / 'large.png')[2], expected)
