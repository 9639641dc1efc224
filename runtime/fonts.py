"""Draw class names of any script in figures."""

import re
import unicodedata
from collections.abc import Sequence

from matplotlib import get_data_path, rcParams
from matplotlib.font_manager import FontProperties, fontManager, get_font


def drawable(names: Sequence[str]) -> list[str]:
    """Return `names` as matplotlib can draw them, without warnings about missing glyphs.

    Adds installed fonts that have missing characters to `rcParams['font.family']`; call it within an `rc_context`,
    which restores that setting. A character that no font has is transliterated if its Unicode name ends in its sound
    (Japanese and Korean syllables, letters); otherwise it becomes a Python escape.
    """
    missing = _missing({*''.join(names)}, fontManager.findfont(FontProperties()))
    if not missing:
        return [*names]
    families = [*rcParams['font.family']]
    plain = [font for font in fontManager.ttflist if (font.style, font.weight) == ('normal', 400)]
    # matplotlib's bundled fonts are for formulas, or show a box for each character, as macOS's LastResort does
    bundled = get_data_path()
    fonts = {o.name: o.fname for o in plain if not o.fname.startswith(bundled) and 'LastResort' not in o.name}
    while missing:
        left = {name: _missing(missing, file) for name, file in sorted(fonts.items())}
        best = min(left, key=lambda name: len(left[name]), default=None)
        if best is None or left[best] == missing:
            break
        families.append(best)
        missing = left[best]
    rcParams['font.family'] = families
    return [''.join(_spelled(c) if c in missing else c for c in name) for name in names]


def _missing(characters: set[str], file: str) -> set[str]:
    """The `characters` that the font in `file` lacks, and all control characters."""
    font = get_font(file)
    return {c for c in characters if unicodedata.category(c)[0] == 'C' or not font.get_char_index(ord(c))}


def _spelled(c: str) -> str:
    sound = re.search(r'(?:SYLLABLE|LETTER(?: SMALL)?) ([A-Z]+)$', unicodedata.name(c, ''))
    return sound[1].lower() if sound else c.encode('unicode_escape').decode()
