"""Keep the weights of the last epoch."""

from fastai.torch_core import get_model

from callbacks.plateau import SaveModel
from ranks import rank0
from tensor_file import save_tensors


class SaveLast(SaveModel):
    """SaveModel where no images are held out: each epoch's weights take the place of those before."""

    def after_epoch(self):
        """Save."""
        rank0(save_tensors, get_model(self.model).state_dict(), self.file)
        self.saved = True
