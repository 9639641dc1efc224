import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from fastai.torch_core import TensorImage
from PIL import Image
from torchvision.models import resnet18

from data.prediction import batches, probabilities
from interpret import gradcam_plots
from interpret.gradcam import grad_cam
from interpret.gradcam_plots import plot_overlays, save_overlays
from runtime.errors import UserError
from training.saved_run import load_model


@pytest.fixture
def seen(run, folder):
    """A Learner, its test files, the first batch and its probabilities."""
    learn, files = load_model(run), sorted((folder / 'test').rglob('*.png'))
    _, x, _ = next(batches(learn, files))
    return learn, files, x, probabilities(learn, x)


def test_shows_the_image_and_lays_each_map_over_it():
    pixels, maps = torch.rand(3, 4, 6), {'one': np.eye(4, 6), 'two\nnot faithful here': np.ones((4, 6))}
    before = mpl.pyplot.get_fignums()  # of other tests
    fig = plot_overlays(TensorImage(pixels), maps, 'cat 0.5')
    assert [ax.get_title(loc='left') for ax in fig.axes] == ['cat 0.5', 'one', 'two\nnot faithful here']
    assert [len(ax.images) for ax in fig.axes] == [1, 2, 2]
    for ax in fig.axes:
        np.testing.assert_allclose(ax.images[0].get_array(), pixels.permute(1, 2, 0))
    np.testing.assert_array_equal(fig.axes[1].images[1].get_array(), np.eye(4, 6))
    assert mpl.pyplot.get_fignums() == before


def test_the_map_is_of_the_predicted_class_over_the_true_colours(seen, tmp_path, monkeypatch):
    learn, files, x, preds = seen
    plotted = []
    monkeypatch.setattr(gradcam_plots, 'plot_overlays', lambda *args: plotted.append(args) or plot_overlays(*args))
    monkeypatch.setattr(gradcam_plots, 'BATCH', 3)
    save_overlays(learn, x, preds, [tmp_path / f'{i}.png' for i in range(4)])
    assert sorted(file.name for file in tmp_path.glob('?.png')) == ['0.png', '1.png', '2.png', '3.png']
    for i, (image, maps, title) in enumerate(plotted):
        np.testing.assert_allclose(image.permute(1, 2, 0), np.asarray(Image.open(files[i])) / 255, atol=1e-5)
        expected = grad_cam(learn.model, x[i : i + 1], int(preds[i].argmax()))
        assert list(maps) == list(expected) == ['layer1', 'layer2', 'layer3', 'layer4']
        for layer, cam in maps.items():
            np.testing.assert_allclose(cam, expected[layer][0], atol=1e-4)
        assert title == f'{learn.dls.vocab[preds[i].argmax()]} {preds[i].max():.2f}'


def test_layers_that_are_not_faithful_are_stamped(seen, tmp_path, monkeypatch):
    learn, _, x, preds = seen
    plotted = []
    monkeypatch.setattr(gradcam_plots, 'plot_overlays', lambda *args: plotted.append(args[1]) or plot_overlays(*args))
    table = pd.DataFrame({'layer': ['layer1', 'layer2', 'layer3', 'layer4'], 'faithful': [True, False, True, True]})
    table.to_csv(learn.path / 'faithfulness.csv', index=False)
    save_overlays(learn, x[:1], preds[:1], [tmp_path / 'a.png'])
    assert list(plotted[0]) == ['layer1', 'layer2\nnot faithful here', 'layer3', 'layer4']
    for damaged in 'layer\n', 'layer,faithful\na,yes\n', 'layer,faithful\na,True\na,False\n':
        (learn.path / 'faithfulness.csv').write_text(damaged)
        with pytest.raises(UserError, match=r'faithfulness\.csv is not a valid faithfulness\.csv of a run'):
            save_overlays(learn, x[:1], preds[:1], [tmp_path / 'a.png'])


def test_a_model_without_maps_is_reported(seen, tmp_path):
    learn, _, x, preds = seen
    learn.model = resnet18(num_classes=3)  # its last layers are 1x1 for these images
    with pytest.raises(UserError, match=r"^no Grad-CAM: layer 'layer3' is 1x1"):
        save_overlays(learn, x, preds, [tmp_path / f'{i}.png' for i in range(4)])
