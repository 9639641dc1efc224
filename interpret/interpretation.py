"""fastai's interpretation of a classifier, with tables of mistakes and Grad-CAM maps."""

from html import escape
from pathlib import Path

import pandas as pd
import sklearn.metrics as skm
import torch
import torch.nn.functional as F
from fastai.vision.all import ClassificationInterpretation, Learner, TfmdDL, one_param, to_device, to_np
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

from data.seeded_loader import batch_at
from interpret.gradcam import grad_cam
from interpret.gradcam_plots import plot_map_grid
from interpret.label_quality import label_quality
from interpret.stamps import stamp
from runtime.errors import UserError
from runtime.figures import STYLE, new_figure


class GradCAMInterpretation(ClassificationInterpretation):
    """fastai's `ClassificationInterpretation` with kept predictions, a table of mistakes and Grad-CAM maps.

    All methods use the one inference pass of `from_learner`: `preds` (probabilities, N x C), `targs`, `decoded`
    (predicted classes, N) and `losses` (the learner's own loss, N), in the order of `dl`'s items. Set `faithfulness` to
    the table that `interpret.faithfulness` measures: pictures and page then stamp the layers that are not faithful.
    """

    faithfulness: pd.DataFrame | None = None

    def __init__(self, learn: Learner, dl: TfmdDL, preds: Tensor, targs: Tensor, losses: Tensor, act=None):
        super().__init__(learn, dl, losses, act)
        self.preds, self.targs, self.decoded = preds, targs, preds.argmax(1)

    @classmethod
    def from_learner(
        cls, learn: Learner, dl: TfmdDL | int | None = None, act=None, ds_idx: int | None = None
    ) -> 'GradCAMInterpretation':
        """Predict `dl`: by default the test loader `learn.dls[2]`, or the validation loader if there is none.

        `ds_idx`, or a number as `dl`, is an index into `learn.dls`; fastai's default is 1, the validation loader.
        `act` turns the model's output into probabilities: by default the loss function's activation, else softmax.
        """
        if dl is None:
            dl = min(2, len(learn.dls) - 1) if ds_idx is None else ds_idx
        if isinstance(dl, int):
            dl = learn.dls[dl]
        if not len(dl.dataset):
            raise UserError('there are no images to interpret: pass a loader, for example learn.dls.test_dl(files)')
        dl = dl.new(shuffle=False, drop_last=False)
        act = act or getattr(learn.loss_func, 'activation', None) or (lambda x: F.softmax(x, dim=1))
        preds, targs, losses = (o.as_subclass(Tensor) for o in learn.get_preds(dl=dl, with_loss=True, act=act))
        return cls(learn, dl, preds.float(), targs, losses.float(), act)

    def __repr__(self) -> str:
        right, n = (self.decoded == self.targs).sum().item(), len(self.targs)
        return f'{type(self).__name__} of {n} images, {n - right} of them wrong: accuracy {right / n:.2%}'

    def _repr_html_(self) -> str:
        return f'<p>{escape(repr(self))}; the worst:</p>{self.mistakes(5).to_html()}'

    def __getitem__(self, idxs) -> tuple:
        """Inputs (loaded on each call), probabilities, targets, predicted classes and losses at `idxs`."""
        idxs = torch.as_tensor(idxs).reshape(-1).tolist()
        x = batch_at(self.dl, idxs)[0]
        return x, self.preds[idxs], self.targs[idxs], self.decoded[idxs], self.losses[idxs]

    def confusion_matrix(self):
        """An array of counts, C x C: rows are actual classes, columns are predicted classes."""
        return skm.confusion_matrix(self.targs, self.decoded, labels=range(len(self.vocab)))

    def print_classification_report(self) -> None:
        names = [str(v) for v in self.vocab]
        print(skm.classification_report(self.targs, self.decoded, labels=range(len(names)), target_names=names))

    def per_class(self) -> pd.DataFrame:
        """One row per class: its name, precision, recall and f1 (fractions, 0 if undefined), and number of images."""
        labels = range(len(self.vocab))
        scores = skm.precision_recall_fscore_support(self.targs, self.decoded, labels=labels, zero_division=0)
        columns = dict(zip(('precision', 'recall', 'f1', 'images'), scores, strict=True))
        return pd.DataFrame({'class': [str(name) for name in self.vocab], **columns})

    def scores(self) -> dict[str, float | None]:
        """Return `top_5_accuracy` (None for up to five classes), `balanced_accuracy` and `macro_f1`, as fractions.

        They are scikit-learn's. The balanced accuracy is the mean recall of the classes that have images; macro-F1 is
        the mean of `per_class`.
        """
        labels, top_5 = range(len(self.vocab)), None
        if len(labels) > 5:
            top_5 = skm.top_k_accuracy_score(self.targs, self.preds, k=5, labels=labels)
        present = self.targs.unique()
        return {
            'top_5_accuracy': top_5,
            'balanced_accuracy': skm.recall_score(self.targs, self.decoded, labels=present, average='macro'),
            'macro_f1': skm.f1_score(self.targs, self.decoded, labels=labels, average='macro', zero_division=0),
        }

    def mistakes(self, k: int | None = 25) -> pd.DataFrame:
        """The `k` misclassified images with the highest loss, worst first; None for all of them.

        The index is an image's position in `dl`. `file` is relative to `learn.dls.path`, or the index if there's none.
        """
        wrong = (self.decoded != self.targs).nonzero().squeeze(1)
        return self._table(wrong[self.losses[wrong].argsort(descending=True)][:k])

    def suspects(self, k: int | None = 25) -> pd.DataFrame:
        """The `k` images, right or wrong, with the most doubtful labels, worst first; columns as in `mistakes`."""
        return self._table(label_quality(self.preds, self.targs).argsort()[:k])

    def path(self, i: int) -> Path | None:
        """The file of image `i`; None if the images of `dl` aren't files."""
        items = getattr(self.dl, 'items', None)
        item = None if items is None or isinstance(items, pd.DataFrame) else items[i]
        return Path(item) if isinstance(item, str | Path) else None

    def plot_top_losses(
        self, k: int | list, largest=True, layers=None, nrows: int | None = None, ncols: int | None = None, **kwargs
    ) -> Figure:
        """fastai's `plot_top_losses` with the maps of `layers` laid over each image; `k` may be a list of ranks.

        A top loss need not be a mistake: see `plot_gradcam`. Images, each with its maps, fill `nrows` rows and `ncols`
        columns, by default one column. `kwargs`, for example `figsize` in inches, go to the figure.
        """
        idxs = self.top_losses(None, largest)[1]
        idxs = idxs[:k] if isinstance(k, int) else idxs[list(k)]
        title = f'{"Highest" if largest else "Lowest"} losses, and Grad-CAM of the predicted class'
        ncols = ncols or (-(-len(idxs) // nrows) if nrows else 1)
        return self._plot(idxs.tolist(), layers, title, alone=False, ncols=ncols, **kwargs)

    def plot_gradcam(self, k: int = 25, layers=None) -> Figure:
        """Plot the `k` worst `mistakes`, one a row, with each layer's map of the predicted class, alone and over it."""
        idxs = self.mistakes(k).index.tolist()
        title = f'The {len(idxs)} worst mistakes, and Grad-CAM of the predicted class'
        if len(idxs) < k:
            title = f'All {len(idxs)} mistakes (fewer than {k}), and Grad-CAM of the predicted class'
        return self._plot(idxs, layers, title, alone=True)

    def _table(self, idxs: Tensor) -> pd.DataFrame:
        targs, decoded = self.targs[idxs], self.decoded[idxs]
        columns = {
            'file': [self._file(i) for i in idxs.tolist()],
            'actual': [self.vocab[i] for i in targs.tolist()],
            'predicted': [self.vocab[i] for i in decoded.tolist()],
            'probability': self.preds[idxs, decoded],
            'probability_of_actual': self.preds[idxs, targs],
            'loss': self.losses[idxs],
            'label_quality': label_quality(self.preds, self.targs)[idxs],
        }
        return pd.DataFrame(columns, index=idxs.tolist())

    def _file(self, i: int) -> str:
        path, root = self.path(i), Path(self.learn.dls.path).absolute()
        if path is None:
            return str(i)
        return (path.absolute().relative_to(root) if path.absolute().is_relative_to(root) else path).as_posix()

    @rc_context(STYLE)
    def _plot(self, idxs: list[int], layers, title: str, alone: bool, **kwargs) -> Figure:
        if not idxs:
            fig, axs = new_figure(figsize=(6, 1.5))
            axs[0, 0].axis('off')
            axs[0, 0].text(0.5, 0.5, f'No mistakes: all {len(self.targs)} images are right.', ha='center')
            return fig
        x, _, targs, decoded, _ = self[idxs]
        images = self.dl._pre_show_batch((x, targs), max_n=len(idxs))[2].itemgot(0)
        maps = grad_cam(self.learn.model, to_device(x, one_param(self.learn.model).device), decoded, layers)
        heads = {f'{name}\n{stamp(self.faithfulness, name)}'.rstrip(): to_np(cams) for name, cams in maps.items()}
        texts = [
            f'predicted {o.predicted} {o.probability:.2f} / actual {o.actual} {o.probability_of_actual:.2f}, '
            f'loss {o.loss:.1f}'
            for o in self._table(torch.tensor(idxs)).itertuples()
        ]
        return plot_map_grid(images, heads, texts, title, alone, **kwargs)
