"""Files in, reproducible batches out."""

import os
from typing import Any

# otherwise importing Albumentations looks for updates online; only this package imports it
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

__all__ = ['get_dls']


def __getattr__(name: str) -> Any:
    """Import `get_dls` on first use: `models` needs `data.sizes`, but not fastai."""
    if name != 'get_dls':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from data.loaders import get_dls

    return get_dls
