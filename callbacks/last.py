"""Keep the weights of the last epoch."""

from callbacks.plateau import SaveModel


class SaveLast(SaveModel):
    """SaveModel where no images are held out: each epoch's weights take the place of those before."""

    def after_epoch(self):
        """Save."""
        self._save()
