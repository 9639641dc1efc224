import matplotlib as mpl
import numpy as np
import pytest
from pictures import overlaps

from interpret.confusion import plot_confusion, shortened
from runtime import fonts
from runtime.figures import save_figure

CORN = 'Corn_(maize)___Cercospora_leaf_spot_Gray_leaf_spot'


def counts(n):
    return np.full((n, n), 10) + 90 * np.eye(n, dtype=int)


def inches(fig):
    """The width and height of the matrix itself."""
    box = fig.axes[0].get_position()
    return box.width * fig.get_figwidth(), box.height * fig.get_figheight()


def test_confusion_counts_and_shares():
    cm = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 3]])
    ax = plot_confusion(cm, ['a', 'b', 'c']).axes[0]
    cells = {t.get_position(): t.get_text() for t in ax.texts}
    assert cells == {(0, 0): '8', (1, 0): '2', (0, 2): '1', (2, 2): '3'}  # x is the predicted class
    np.testing.assert_allclose(ax.images[0].get_array().filled(-1), [[0.8, 0.2, 0], [0, 0, 0], [0.25, 0, 0.75]])
    assert ax.get_title('left') == 'Confusion matrix: 11 of 14 right (78.57%)'
    assert [t.get_text() for t in ax.get_yticklabels()] == ['a', 'b', 'c']


@pytest.mark.parametrize(('vocab', 'side'), [
    (['a', 'b'], 3),
    ([CORN, 'Corn_(maize)___Common_rust_'], 3),
    ([f'the class {i}' for i in range(12)], 6),
    ([chr(97 + i) * 60 for i in range(10)], 5),
    ([f'{CORN}___{i}' for i in range(38)], 16),
    ([*(f'class {i}' for i in range(37)), 'W' * 200], 16),
])  # fmt: skip
def test_long_names_do_not_overlap_or_shrink_the_matrix(vocab, side):
    fig = plot_confusion(100 * np.eye(len(vocab), dtype=int), vocab)
    assert overlaps(fig) == []
    assert inches(fig) == pytest.approx((side, side))
    shown = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert len({*shown}) == len(vocab)
    assert fig.axes[0].get_yticklabels()[0].get_fontsize() == 9


def test_100_classes_have_readable_names():
    fig = plot_confusion(np.eye(100, dtype=int), [f'n0{i:07} some bird, Latinus nominus {i}' for i in range(100)])
    assert inches(fig) == pytest.approx((16, 16))
    shown = fig.axes[0].get_yticklabels()
    assert len({t.get_text() for t in shown}) == 100
    assert 8 < shown[0].get_fontsize() < 72 * 16 / 100


def test_1000_classes_show_only_some_names():
    fig = plot_confusion(np.eye(1000, dtype=int), [f'class {i}' for i in range(1000)])
    shown = fig.axes[0].get_yticklabels()
    assert [t.get_text() for t in shown[:2]] == ['class 0', 'class 6']  # a cell has 1.15 points
    assert 5 < shown[0].get_fontsize() < 6 * 1.152
    assert not fig.axes[0].texts


def test_names_are_shortened_in_the_middle():
    assert shortened(['a' * 36]) == ['a' * 36]
    assert shortened([CORN]) == ['Corn_(maize)___Ce…ot_Gray_leaf_spot']
    assert shortened(['猫' * 36]) == ['猫' * 8 + '…' + '猫' * 8]


def test_names_that_would_be_the_same_are_numbered():
    names = [f'{"a" * 30}{i}{"b" * 30}' for i in range(2)]
    short = 'a' * 17 + '…' + 'b' * 17
    assert shortened(names) == [f'1 {short}', f'2 {short}']


@pytest.mark.filterwarnings('error')
def test_letters_without_a_font_are_spelled_out_and_reported(tmp_path, capsys, monkeypatch):
    dejavu = [font for font in fonts.fontManager.ttflist if font.name == 'DejaVu Sans']
    monkeypatch.setattr(fonts.fontManager, 'ttflist', dejavu)
    before = mpl.rcParams.copy()
    fig = plot_confusion(counts(2), ['ねこ', '猫'])
    save_figure(fig, tmp_path / 'cm.png')
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ['neko', r'\u732b']
    out = capsys.readouterr().out
    assert out == 'pictures spell out some letters of the class names: no installed font has them\n'
    assert mpl.rcParams == before


def test_letters_with_a_font_are_not_reported(capsys):
    plot_confusion(counts(2), ['кошка', 'Öl'])
    assert capsys.readouterr().out == ''
