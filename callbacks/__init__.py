"""fastai callbacks, one a file."""
