"""Class names in any script, in pictures."""

import re
import unicodedata
from collections.abc import Sequence

from matplotlib import get_data_path, rcParams
from matplotlib.font_manager import FontProperties, fontManager, get_font


def drawable(names: Sequence[str]) -> list[str]:
    """`names` as a picture can show them, without matplotlib's warnings about missing glyphs.

    Adds those of the installed fonts to `rcParams['font.family']` that have the characters which the others lack; call
    it within an `rc_context`, which takes them away again. A character that no font has is spelled out: Japanese
    syllables and others whose Unicode name says their sound by it, the rest as an escape.
    """
    missing = _missing({*''.join(names)}, fontManager.findfont(FontProperties()))
    if not missing:
        return [*names]
    families = [*rcParams['font.family']]
    # matplotlib's own are for formulas, or show a box for each character
    fonts = {font.name: font.fname for font in _plain() if not font.fname.startswith(get_data_path())}
    while missing:
        left = {name: _missing(missing, file) for name, file in sorted(fonts.items())}
        best = min(left, key=lambda name: len(left[name]), default=None)
        if best is None or left[best] == missing:
            break
        families.append(best)
        missing = left[best]
    rcParams['font.family'] = families
    return [''.join(_spelled(c) if c in missing else c for c in name) for name in names]


def _plain() -> list:
    return [font for font in fontManager.ttflist if (font.style, font.weight) == ('normal', 400)]


def _missing(characters: set[str], file: str) -> set[str]:
    """Those of `characters` that the font in `file` lacks, and control characters."""
    font = get_font(file)
    return {c for c in characters if unicodedata.category(c)[0] == 'C' or not font.get_char_index(ord(c))}


def _spelled(c: str) -> str:
    sound = re.search(r'(?:SYLLABLE|LETTER(?: SMALL)?) ([A-Z]+)$', unicodedata.name(c, ''))
    return sound[1].lower() if sound else c.encode('unicode_escape').decode()
