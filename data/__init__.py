"""What goes in: where images come from, how they are checked, changed and loaded."""

import os

os.environ.setdefault(
    'NO_ALBUMENTATIONS_UPDATE', '1'
)  # or its import, which is only in here, asks the network for news
