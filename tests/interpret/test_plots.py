from dataclasses import replace
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pictures import overlaps
from PIL import Image
from tiny import TINY, tiny_dls, write_images

from data.samples import plot_augmented
from runtime.figures import save_figure
from training.plots import plot_history, plot_history_panels, plot_sweep

HISTORY = pd.DataFrame(
    {
        'epoch': [0, 1, 2, 3, 4, 5],
        'train_loss': [2.0, 1.5, 1.0, 0.8, 0.6, 0.5],
        'train_accuracy': [0.3, 0.5, 0.6, 0.7, 0.8, 0.9],
        'valid_loss': [1.9, 1.4, 1.6, 0.9, 0.7, 0.8],
        'valid_accuracy': [0.35, 0.55, 0.5, 0.75, 0.77, 0.78],
        'lr': [0.1, 0.1, 0.1, 0.02, 0.02, 0.004],
        'seconds': [1.0] * 6,
    }
)
SWEEP = SimpleNamespace(
    lr=1e-2,
    rule='valley',
    reason='two thirds along the longest stretch of falling loss',
    lrs=[1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0],
    losses=[2.0, 1.9, 1.4, 1.0, 5.0, 900.0],
    suggestions={'valley': 1e-2, 'steep': 1e-3, 'minimum': 1e-2},
)


@pytest.fixture(autouse=True)
def pyplot_is_left_alone():
    """No plot leaves a figure open or a setting changed."""
    plt.get_backend()  # matplotlib sets the backend at its first use
    before = mpl.rcParams.copy()
    yield
    assert plt.get_fignums() == []
    assert mpl.rcParams == before


def labels(ax) -> list[str]:
    return [t.get_text() for t in ax.get_legend().get_texts()]


def line(ax, label) -> np.ndarray:
    """The points of the curve, x and y."""
    return next(o for o in ax.lines if o.get_label() == label).get_xydata()


def test_history_shows_both_accuracies_the_cuts_and_the_best_epoch():
    fig = plot_history(HISTORY)
    ax = fig.axes[0]
    np.testing.assert_array_equal(line(ax, 'train accuracy')[:, 0], [1, 2, 3, 4, 5, 6])  # counted from 1
    np.testing.assert_array_equal(line(ax, 'train accuracy')[:, 1], HISTORY.train_accuracy)
    np.testing.assert_array_equal(line(ax, 'valid accuracy')[:, 1], HISTORY.valid_accuracy)
    np.testing.assert_array_equal(line(ax, 'best epoch 5: 77.00%'), [[5, 0.77]])  # by the loss, not the accuracy
    cuts = [o.get_xdata()[0] for o in ax.lines if o.get_linestyle() == ':']
    assert cuts == [3.5, 5.5]  # between the last epoch at the old rate and the first at the new one
    top = ax.child_axes[0]
    assert top.get_xticks().tolist() == cuts
    assert [t.get_text() for t in top.get_xticklabels()] == ['lr 0.02', 'lr 0.004']


def test_history_panels():
    axes = plot_history_panels(HISTORY).axes
    assert [labels(ax)[0] for ax in axes] == ['train loss', 'valid loss', 'train accuracy', 'valid accuracy']
    assert [labels(ax)[1] for ax in axes] == [f'best epoch 5: {o}' for o in ('0.600', '0.700', '80.00%', '77.00%')]
    for ax, column in zip(axes, ('train_loss', 'valid_loss', 'train_accuracy', 'valid_accuracy'), strict=True):
        np.testing.assert_array_equal(line(ax, labels(ax)[0])[:, 1], HISTORY[column])
        assert sum(o.get_linestyle() == ':' for o in ax.lines) == 2


@pytest.mark.parametrize(('plot', 'epochs'), [(plot_history, 1), (plot_history, 50), (plot_history_panels, 50)])
def test_history_of_any_length(plot, epochs):
    history = pd.concat([HISTORY] * 9, ignore_index=True)[:epochs]
    history['epoch'], history['lr'] = range(epochs), np.repeat([0.1, 0.01, 0.001, 0.0001], [25, 12, 8, 5])[:epochs]
    fig = plot(history)
    assert overlaps(fig) == []
    ticks = [t for t in fig.axes[0].get_xticks() if 0.5 <= t <= epochs + 0.5]
    assert ticks
    assert all(t == int(t) for t in ticks)


@pytest.mark.parametrize('plot', [plot_history, plot_history_panels])
def test_one_epoch_is_a_point_that_its_star_does_not_hide(plot):
    for ax in plot(HISTORY[:1]).axes:
        assert ax.get_xlim() == (0.5, 1.5)
        assert [t for t in ax.get_xticks() if 0.5 <= t <= 1.5] == [1]
        (star,) = [o for o in ax.lines if o.get_marker() == '*']
        assert star.get_markerfacecolor() == 'none'
        assert any(o.get_marker() == 'o' and (o.get_xydata() == star.get_xydata()).all() for o in ax.lines)


def test_a_constant_rate_has_no_cuts():
    ax = plot_history(HISTORY.assign(lr=0.1)).axes[0]
    assert not any(o.get_linestyle() == ':' for o in ax.lines)


def test_sweep_marks_the_choice_and_the_other_suggestions():
    fig = plot_sweep(SWEEP)
    ax = fig.axes[0]
    chosen = 'chosen, valley, minimum: 1.00e-02'  # one mark: they would hide one another
    assert labels(ax) == [chosen, 'steep: 1.00e-03']
    np.testing.assert_allclose(line(ax, chosen), [[1e-2, 1.4]])
    np.testing.assert_allclose(line(ax, 'steep: 1.00e-03'), [[1e-3, 1.9]])
    assert ax.get_xscale() == 'log'
    assert ax.get_title('left') == SWEEP.reason
    assert overlaps(fig) == []


@pytest.mark.parametrize(('lr', 'loss'), [(1.0, 5.0), (10.0, 900.0)])
def test_a_suggestion_outside_the_axes_is_labelled(lr, loss):
    sweep = SimpleNamespace(**{**vars(SWEEP), 'suggestions': {'valley': 1e-2, 'slide': lr, 'lowest': lr}})
    ax = plot_sweep(sweep).axes[0]
    assert labels(ax) == ['chosen, valley: 1.00e-02', f'slide, lowest: {lr:.2e} (outside)']
    assert loss > ax.get_ylim()[1]


def test_a_diverging_tail_does_not_squash_the_sweep():
    low, high = plot_sweep(SWEEP).axes[0].get_ylim()
    assert low < 1.0
    assert 2.0 < high < 3.0  # the descent, from 2 to 1, takes most of the picture


@pytest.mark.parametrize('losses', [[2.3], [2.3, np.inf, np.nan], [np.nan], [2.3, 9.0, 40.0]])
def test_a_sweep_that_failed_is_still_drawn(losses, tmp_path):
    sweep = SimpleNamespace(lr=0.1, rule='fallback', reason='diverged', suggestions={}, losses=losses)
    sweep.lrs = [1e-4, 2e-4, 4e-4][: len(losses)]
    save_figure(plot_sweep(sweep), tmp_path / 'sweep.png')


def test_augmented_shows_the_class_in_true_colours(tmp_path):
    write_images(tmp_path / 'images')
    plain = replace(TINY, pad=0.0, flip=0.0, hole=0.0)
    dls = tiny_dls(tmp_path / 'images', plain)
    fig = plot_augmented(dls, 'green', n=4)
    assert fig.get_suptitle() == 'green'
    files = [f for f in dls.train_ds.items if f.parent.name == 'green']
    originals = {np.array(Image.open(f)).tobytes() for f in files}
    shown = {np.rint(255 * np.asarray(ax.images[0].get_array())).astype(np.uint8).tobytes() for ax in fig.axes}
    assert len(shown) == 4
    assert shown <= originals


def test_augmented_repeats_the_images_of_a_small_class_with_new_draws(folder):
    fig = plot_augmented(tiny_dls(folder), 'red', n=16)  # of 6 training images
    shown = [np.asarray(ax.images[0].get_array()).tobytes() for ax in fig.axes]
    assert len(shown) == len(set(shown)) == 16


def test_augmented_fills_its_grid_from_the_start(folder):
    axes = plot_augmented(tiny_dls(folder), 'blue', n=5).axes
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1, 1, 0]


def test_save_figure_makes_the_folder_and_closes_the_figure(tmp_path):
    fig, _ = plt.subplots()
    save_figure(fig, tmp_path / 'plots' / 'deep' / 'a.png')
    assert plt.get_fignums() == []
    assert Image.open(tmp_path / 'plots/deep/a.png').format == 'PNG'
    assert [f.name for f in (tmp_path / 'plots/deep').iterdir()] == ['a.png']


def test_save_figure_leaves_no_partial_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.png'
    path.write_bytes(b'old')

    def fail(self, file, **kwargs):
        assert file != path
        file.write_bytes(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(Figure, 'savefig', fail)
    with pytest.raises(OSError, match='disk full'):
        save_figure(plt.figure(), path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_cut_off_at_the_edge(tmp_path):
    fig, ax = plt.subplots(figsize=(1, 1))
    ax.set_title('a title far wider than the figure that it stands above')
    save_figure(fig, tmp_path / 'a.png')
    grey = np.array(Image.open(tmp_path / 'a.png').convert('L'))
    assert grey[:, [0, -1]].min() == 255
    assert grey[[0, -1]].min() == 255


@pytest.mark.parametrize('plot', [plot_history, plot_history_panels])
def test_without_validation_only_training_is_shown_and_the_last_epoch(plot):
    history = HISTORY.assign(valid_loss=np.nan, valid_accuracy=np.nan, lr=np.linspace(1, 0.1, len(HISTORY)))
    fig = plot(history)
    names = [name for ax in fig.axes for name in labels(ax)]
    assert not any('valid' in name for name in names)
    assert names[-1].startswith('last epoch 6: ')
    assert not any(o.get_linestyle() == ':' for ax in fig.axes for o in ax.lines)  # a schedule has no cuts
    assert overlaps(fig) == []
