import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import ColReader, IndexSplitter, Normalize, parent_label
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat, LabelSmoothingCrossEntropy
from fastai.vision.augment import Flip
from fastai.vision.core import PILImage
from fastai.vision.data import ImageBlock, ImageDataLoaders
from fastai.vision.learner import vision_learner
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.datasets import load_digits
from tiny import tiny_dls
from torch import nn
from torchvision.models import resnet18

from interpret.gradcam import grad_cam
from interpret.interpretation import GradCAMInterpretation

# The predicted probabilities of six images, and their labels.
P = [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5], [0.05, 0.05, 0.9], [0.6, 0.35, 0.05]]
LABELS = ['ant', 'ant', 'bee', 'bee', 'cat', 'cat']
# By hand: thresholds .45, .45, .475; add .025, .025, 0 to each row; divide by 1.05; (own - best other + 1) / 2.
QUALITY = [(m / 1.05 + 1) / 2 for m in (0.7, -0.6, 0.3, -0.175, 0.825, -0.575)]


class Fixed(nn.Module):
    """Return the logits of row i for an image of grey level i; count the images seen."""

    def __init__(self, probs, mean=0.0, std=1.0):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.logits, self.mean, self.std, self.seen = torch.tensor(probs).log(), mean, std, 0

    def forward(self, x):
        self.seen += len(x)
        level = ((x.mean((1, 2, 3)) * self.std + self.mean) * 255).round().long()
        return self.logits[level].as_subclass(torch.Tensor) + 0 * self.conv(x).mean((2, 3))


@pytest.fixture
def files(tmp_path):
    """Six grey images of 8x8 pixels; the grey level is the index."""
    for i, name in enumerate(LABELS):
        (tmp_path / 'set' / name).mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (i, i, i)).save(tmp_path / 'set' / name / f'{i}.png')
    return [tmp_path / 'set' / name / f'{i}.png' for i, name in enumerate(LABELS)]


def six(files, splits=2, **kwargs) -> DataLoaders:
    """DataLoaders whose splits all have the six images, in order, in batches of 4."""
    block = DataBlock(
        (ImageBlock, CategoryBlock), get_y=parent_label, splitter=lambda items: [list(range(6))] * splits, **kwargs
    )
    return block.dataloaders(files, path=files[0].parents[2], bs=4, num_workers=0, device='cpu')


def interpret(dls, probs=P, loss_func=None, dl=None, **kwargs) -> GradCAMInterpretation:
    learn = Learner(dls, Fixed(probs), loss_func=loss_func or CrossEntropyLossFlat())
    with learn.no_bar():
        return GradCAMInterpretation.from_learner(learn, dl, **kwargs)


@pytest.fixture
def interp(files):
    return interpret(six(files))


@pytest.fixture
def digits(tmp_path):
    """An untrained plain fastai `vision_learner` on 30 scans of three digits in an image folder."""
    data = load_digits()
    for i in range(30):
        folder = tmp_path / f'digit {data.target[i] % 3}'
        folder.mkdir(exist_ok=True)
        grey = (data.images[i] * 15.9).astype(np.uint8)
        Image.fromarray(np.stack([grey, grey // 2, 255 - grey], -1)).resize((40, 40)).save(folder / f'{i:02}.png')
    torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(tmp_path, valid_pct=0.8, seed=0, bs=6, num_workers=0, device='cpu')
    learn = vision_learner(dls, resnet18, pretrained=False)
    with learn.no_bar():
        yield GradCAMInterpretation.from_learner(learn)


def texts(fig) -> list[str]:
    """All non-empty texts of the figure."""
    return [t.get_text() for t in fig.findobj(plt.Text) if t.get_text()]


def row_titles(fig) -> list[str]:
    return [t for t in texts(fig) if t.startswith('predicted')]


def pixels(shown) -> np.ndarray:
    """A displayed image in [0, 1]."""
    array = np.asarray(shown.get_array(), dtype=float)
    return array / 255 if array.max() > 1 else array


def test_mistakes_by_hand(interp):
    table = interp.mistakes()
    assert table.columns.tolist() == [
        'file', 'actual', 'predicted', 'probability', 'probability_of_actual', 'loss', 'label_quality',
    ]  # fmt: skip
    assert table.index.tolist() == [5, 1, 3]
    assert table.file.tolist() == ['set/cat/5.png', 'set/ant/1.png', 'set/bee/3.png']
    assert table.actual.tolist() == ['cat', 'ant', 'bee']
    assert table.predicted.tolist() == ['ant', 'bee', 'cat']
    np.testing.assert_allclose(table.probability, [0.6, 0.7, 0.5], atol=1e-6)
    np.testing.assert_allclose(table.probability_of_actual, [0.05, 0.1, 0.3], atol=1e-6)
    np.testing.assert_allclose(table.loss, [-math.log(0.05), -math.log(0.1), -math.log(0.3)], atol=1e-5)
    np.testing.assert_allclose(table.label_quality, [QUALITY[i] for i in (5, 1, 3)], atol=1e-6)


@pytest.mark.parametrize(('k', 'rows'), [(1, [5]), (2, [5, 1]), (3, [5, 1, 3]), (25, [5, 1, 3]), (None, [5, 1, 3])])
def test_mistakes_gives_k_or_all(interp, k, rows):
    assert interp.mistakes(k).index.tolist() == rows


def test_a_repl_shows_how_many_are_wrong(interp):
    assert repr(interp) == 'GradCAMInterpretation of 6 images, 3 of them wrong: accuracy 50.00%'
    shown = interp._repr_html_()
    assert 'accuracy 50.00%' in shown
    assert all(f'<td>{file}</td>' in shown for file in interp.mistakes(5).file)


def test_no_mistakes(files):
    interp = interpret(six(files), np.eye(3)[[0, 0, 1, 1, 2, 2]].clip(1e-6, 1).tolist())
    table = interp.mistakes()
    assert len(table) == 0
    assert table.columns[0] == 'file'
    assert texts(interp.plot_gradcam()) == ['No mistakes: all 6 images are right.']


def test_suspects_by_hand(interp):
    table = interp.suspects(None)
    assert table.index.tolist() == [1, 5, 3, 2, 0, 4]
    np.testing.assert_allclose(table.label_quality, sorted(QUALITY), atol=1e-6)
    assert interp.suspects(2).index.tolist() == [1, 5]


def test_all_methods_use_one_inference_pass(interp, capsys):
    model = interp.learn.model
    assert model.seen == 6
    interp.mistakes(), interp.suspects(), interp.top_losses(3), interp.confusion_matrix(), interp.most_confused()
    interp.print_classification_report()
    interp.plot_confusion_matrix()
    interp.show_results([0, 4])
    interp[2, 3]
    plt.close('all')
    assert model.seen == 6
    interp.plot_gradcam(2, layers=['conv'])
    assert model.seen == 6 + 2
    assert 'ant' in capsys.readouterr().out


def test_confusions(interp):
    assert interp.confusion_matrix().tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert sorted(interp.most_confused()) == [('ant', 'bee', 1), ('bee', 'cat', 1), ('cat', 'ant', 1)]


def test_classes_without_images_have_rows(files):
    dls = six(files)
    interp = interpret(dls, dl=dls.test_dl(files[:2], with_labels=True))
    assert interp.confusion_matrix().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_classification_report(interp, capsys):
    interp.print_classification_report()
    expected = skm.classification_report(LABELS, ['ant', 'bee', 'bee', 'cat', 'cat', 'ant'])
    assert capsys.readouterr().out == expected + '\n'


def test_default_loader_is_the_test_set_or_else_the_validation_set(files):
    three, two = six(files, splits=3), six(files, splits=2)
    assert interpret(three).dl.dataset is three[2].dataset
    assert interpret(two).dl.dataset is two.valid.dataset
    assert interpret(three, dl=three.valid).dl.dataset is three.valid.dataset


def test_a_shuffled_loader_that_drops_the_last_batch_is_read_whole_and_in_order(files):
    dls = six(files)
    interp = interpret(dls, dl=dls.train)
    assert interp.targs.tolist() == [0, 0, 1, 1, 2, 2]
    assert interp.mistakes().file.tolist() == ['set/cat/5.png', 'set/ant/1.png', 'set/bee/3.png']


@pytest.mark.parametrize('loss_func', [LabelSmoothingCrossEntropy(eps=0.3), nn.CrossEntropyLoss(label_smoothing=0.3)])
def test_losses_are_the_learners_own_and_preds_are_probabilities(files, loss_func):
    interp = interpret(six(files), loss_func=loss_func)
    np.testing.assert_allclose(interp.preds, P, atol=1e-6)
    smoothed = [-0.7 * math.log(p[y]) - 0.1 * sum(map(math.log, p)) for p, y in zip(P, (0, 0, 1, 1, 2, 2), strict=True)]
    np.testing.assert_allclose(interp.losses, smoothed, atol=1e-5)
    assert interp.mistakes().index.tolist() == [i for i in np.argsort(smoothed)[::-1] if i in (1, 3, 5)]


def test_act_replaces_the_losses_activation(files):
    interp = interpret(six(files), act=torch.exp)
    np.testing.assert_allclose(interp.preds, P, atol=1e-6)


def test_getitem_loads_the_chosen_images(interp):
    x, preds, targs, decoded, losses = interp[torch.tensor([4, 1])]
    np.testing.assert_allclose(x.mean((1, 2, 3)) * 255, [4, 1], atol=1e-4)
    np.testing.assert_allclose(preds, [P[4], P[1]], atol=1e-6)
    assert (targs.tolist(), decoded.tolist()) == ([2, 0], [2, 1])
    assert losses.tolist() == interp.losses[[4, 1]].tolist()
    assert len(interp[3][0]) == 1


def test_files_outside_of_the_data_folder_keep_their_path(interp, files, tmp_path):
    interp.learn.dls.path = tmp_path / 'elsewhere'
    assert interp.mistakes(1).file.tolist() == [files[5].as_posix()]


@pytest.mark.parametrize('as_frame', [True, False])
def test_items_without_files_are_named_by_their_index(files, as_frame):
    if as_frame:
        items = pd.DataFrame({'name': files, 'label': LABELS})
        block = DataBlock((ImageBlock, CategoryBlock), get_x=ColReader('name'), get_y=ColReader('label'))
    else:
        items = [PILImage.create(f) for f in files]  # the grey level is the index
        block = DataBlock((ImageBlock, CategoryBlock), get_y=lambda o: LABELS[np.array(o)[0, 0, 0]])
    block.splitter = IndexSplitter(range(6))
    items = pd.concat([items, items]) if as_frame else items * 2
    interp = interpret(block.dataloaders(items, bs=4, num_workers=0, device='cpu'))
    assert interp.mistakes().file.tolist() == ['5', '1', '3']


def test_plot_gradcam_has_titles(interp):
    fig = interp.plot_gradcam(2, layers=['conv'])
    assert row_titles(fig) == [
        'predicted ant 0.60 / actual cat 0.05, loss 3.0',
        'predicted bee 0.70 / actual ant 0.10, loss 2.3',
    ]
    assert 'conv' in texts(fig)
    assert 'The 2 worst mistakes, and Grad-CAM of the predicted class' in texts(fig)
    assert [len(ax.images) for ax in fig.axes] == [1, 1, 2] * 2  # the image, the map, the map on the image
    assert 'All 3 mistakes (fewer than 25), and Grad-CAM of the predicted class' in texts(
        interp.plot_gradcam(layers=['conv'])
    )
    assert plt.get_fignums() == []


def test_plot_top_losses_takes_fastais_arguments(interp):
    losses = [f'loss {-math.log(p[y]):.1f}' for p, y in zip(P, (0, 0, 1, 1, 2, 2), strict=True)]

    def shown(*args, **kwargs):
        return [t.split(', ')[1] for t in row_titles(interp.plot_top_losses(*args, layers=['conv'], **kwargs))]

    assert shown(2) == [losses[5], losses[1]]
    assert shown([0, 2]) == shown(range(0, 3, 2)) == [losses[5], losses[3]]
    assert shown(1, largest=False) == [losses[4]]
    assert shown(99) == [losses[i] for i in (5, 1, 3, 2, 0, 4)]
    fig = interp.plot_top_losses(1, layers=['conv'], figsize=(4, 3))
    assert [len(ax.images) for ax in fig.axes] == [1, 2]
    assert fig.get_size_inches().tolist() == [4, 3]
    for grid, (rows, cols) in {'nrows': (2, 3), 'ncols': (3, 2)}.items():
        fig = interp.plot_top_losses(5, layers=['conv'], **{grid: 2})
        assert fig.axes[0].get_gridspec().get_geometry() == (rows, 2 * cols)  # an image and its map
        assert [len(ax.images) for ax in fig.axes] == [1, 2] * 5 + [0, 0]
        assert [t.split(', ')[1] for t in row_titles(fig)] == [losses[i] for i in (5, 1, 3, 2, 0)]
        assert texts(fig).count('conv') == cols


def test_a_plain_vision_learner_with_all_its_layers(digits):
    interp, k = digits, 3
    fig = interp.plot_gradcam(k)
    idxs = interp.mistakes(k).index.tolist()
    x, _, _, decoded, _ = interp[idxs]
    maps = grad_cam(interp.learn.model, x, decoded)
    assert len(maps) > 1
    assert [t for t in texts(fig) if t in maps] == list(maps)
    axes = np.array(fig.axes).reshape(k, 1 + 2 * len(maps))
    for i, row in enumerate(axes):
        for (alone, laid_over), cams in zip(row[1:].reshape(-1, 2), maps.values(), strict=True):
            np.testing.assert_allclose(alone.images[0].get_array(), cams[i], atol=1e-5)
            np.testing.assert_allclose(laid_over.images[1].get_array(), cams[i], atol=1e-5)


def test_layers_measured_as_not_faithful_are_stamped(digits):
    digits.faithfulness = pd.DataFrame({'faithful': [True, False]}, index=['0.6', '0.7'])
    for fig in (digits.plot_gradcam(2, ['0.5', '0.6', '0.7']), digits.plot_top_losses(2, layers=['0.5', '0.6', '0.7'])):
        heads = {text for ax in fig.axes for text in [ax.get_title('left')] if text.startswith('0.')}
        assert heads == {'0.5', '0.6', '0.7\nnot faithful here'}  # nobody measured 0.5


def test_confusion_matrix_agrees_with_sklearn(digits):
    assert digits.confusion_matrix().sum() == len(digits.targs) == 24
    assert (digits.confusion_matrix() == skm.confusion_matrix(digits.targs, digits.decoded, labels=[0, 1, 2])).all()


def test_a_plain_learner_shows_true_colours(digits):
    fig = digits.plot_gradcam(2, layers=['0.7'])
    for row, file in zip(np.array(fig.axes).reshape(2, 3), digits.mistakes(2).file, strict=True):
        original = np.array(Image.open(digits.learn.dls.path / file)) / 255
        for ax in (row[0], row[2]):
            np.testing.assert_allclose(pixels(ax.images[0]), original, atol=1.01 / 255)


def test_fastais_normalize_and_flips_do_not_change_shown_images(files):
    block = {'batch_tfms': [Flip(p=1.0), Normalize.from_stats([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], cuda=False)]}
    for f in files:
        Image.fromarray(np.random.default_rng(int(f.stem)).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(f)
    interp = interpret(six(files, **block), P * 43)
    fig = interp.plot_top_losses(6, layers=['conv'])
    for ax, i in zip(fig.axes[::2], interp.top_losses()[1], strict=True):
        np.testing.assert_allclose(pixels(ax.images[0]), np.array(Image.open(files[i])) / 255, atol=1.01 / 255)


def test_our_own_loaders_show_true_colours(folder):
    learn = Learner(tiny_dls(folder).to('cpu'), nn.Sequential(nn.Conv2d(3, 3, 1), nn.AvgPool2d(16), nn.Flatten()))
    with learn.no_bar():
        interp = GradCAMInterpretation.from_learner(learn)
    fig = interp.plot_top_losses(4, layers=['0'])
    for ax, i in zip(fig.axes[::2], interp.top_losses(4)[1].tolist(), strict=True):
        original = np.array(Image.open(learn.dls[2].dataset.items[i])) / 255
        np.testing.assert_allclose(pixels(ax.images[0]), original, atol=1.01 / 255)


def test_the_loader_may_be_given_by_its_index(files):
    learn = Learner(six(files, splits=3), Fixed(P), loss_func=CrossEntropyLossFlat())
    with learn.no_bar():
        for kwargs, place in [({}, 2), ({'ds_idx': 0}, 0), ({'dl': 1}, 1)]:
            interp = GradCAMInterpretation.from_learner(learn, **kwargs)
            assert interp.dl.dataset is learn.dls[place].dataset


def test_per_class_by_hand():
    # cat: 3 images, 2 found, 1 false; dog: 2 images, 1 found, 2 false; emu: 1 image, never predicted; yak: no image
    targs, decoded = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 1])
    interp = SimpleNamespace(vocab=['cat', 'dog', 'emu', 'yak'], targs=targs, decoded=decoded)
    assert GradCAMInterpretation.per_class(interp).to_dict('list') == {
        'class': ['cat', 'dog', 'emu', 'yak'],
        'precision': [2 / 3, 1 / 3, 0.0, 0.0],
        'recall': [2 / 3, 1 / 2, 0.0, 0.0],
        'f1': [2 / 3, 2 / 5, 0.0, 0.0],
        'images': [3, 2, 1, 0],
    }


def test_scores_by_hand():
    # recall: cat 2/3, dog 1/2, emu 0; F1: cat 2/3, dog 2/5, emu 0, and 0 of yak, which has no image
    targs, decoded = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 1])
    interp = SimpleNamespace(vocab=['cat', 'dog', 'emu', 'yak'], targs=targs, decoded=decoded)
    assert GradCAMInterpretation.scores(interp) == {
        'top_5_accuracy': None,
        'balanced_accuracy': pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
        'macro_f1': pytest.approx((2 / 3 + 2 / 5 + 0 + 0) / 4),
    }


def test_top_5_accuracy_by_hand():
    preds = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]] * 4) / 21
    targs = torch.tensor([0, 4, 5, 6])  # the last two are not among the five with the highest probabilities
    interp = SimpleNamespace(vocab=list('abcdefg'), preds=preds, targs=targs, decoded=preds.argmax(1))
    assert GradCAMInterpretation.scores(interp)['top_5_accuracy'] == 0.5
