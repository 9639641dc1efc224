import pytest
from matplotlib import pyplot as plt
from matplotlib import rc_context, rcParams
from matplotlib.font_manager import get_font

from runtime import fonts
from runtime.figures import save_figure
from runtime.fonts import drawable


@pytest.fixture
def installed(monkeypatch):
    """Makes only the named fonts available, as if the system had installed them and not matplotlib."""
    every = fonts.fontManager.ttflist

    def install(*names):
        monkeypatch.setattr(fonts.fontManager, 'ttflist', [font for font in every if font.name in names])
        monkeypatch.setattr(fonts, 'get_data_path', lambda: '/nowhere')
        return {font.name: font.fname for font in fonts.fontManager.ttflist if font.style == 'normal'}

    return install


@pytest.mark.filterwarnings('error')
def test_an_installed_font_draws_letters_missing_from_the_first(installed, tmp_path):
    files = installed('DejaVu Sans', 'STIXGeneral')
    known, more = (get_font(files[name]).get_charmap() for name in ('DejaVu Sans', 'STIXGeneral'))
    letters = ''.join(chr(c) for c in sorted(more.keys() - known.keys()) if 0xA0 < c < 0xE000)[:5]
    assert letters
    with rc_context():
        assert drawable(['cat', letters]) == ['cat', letters]
        assert rcParams['font.family'] == ['sans-serif', 'STIXGeneral']
        fig = plt.figure()
        fig.suptitle(letters)
    save_figure(fig, tmp_path / 'letters.png')


def test_nothing_changes_if_the_first_font_has_all_letters(installed):
    installed('DejaVu Sans', 'STIXGeneral')
    with rc_context():
        assert drawable(['cat', 'кот']) == ['cat', 'кот']
        assert rcParams['font.family'] == ['sans-serif']


@pytest.mark.parametrize(('name', 'shown'), [
    ('ねこ', 'neko'), ('ネコ', 'neko'), ('고양이', 'goyangi'), ('猫 1', r'\u732b 1'),
    ('a\nb', r'a\nb'), ('\udcff', r'\udcff'), ('\x1b[0m', r'\x1b[0m'),
])  # fmt: skip
def test_a_letter_that_no_font_has_is_spelled_out(installed, name, shown):
    installed('DejaVu Sans')
    with rc_context():
        assert drawable([name]) == [shown]
