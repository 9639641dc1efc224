"""Files, locks, signals, processes, the console and errors. Imports no torch."""

import warnings

warnings.filterwarnings('ignore', '`torch.jit.script` is deprecated')  # from inside fastai; users can't fix it
