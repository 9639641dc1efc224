"""How images that are resized become pixels: a run keeps the way it began with."""

from runtime.errors import UserError

# 'direct': crops are resized with OpenCV's INTER_AREA. Runs without an entry in config.json, the earliest, used it.
# 'cached-1': images are shrunk once, and crops are resized with torch's filter (`data.antialias`).
PIXELS = 'direct', 'cached-1'


def refuse_unknown(pixels: str) -> None:
    """Raise UserError if `pixels` isn't one of PIXELS."""
    if pixels not in PIXELS:
        raise UserError(f'pixels {pixels!r}: this version only knows {" and ".join(map(repr, PIXELS))}')
