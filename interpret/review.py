"""The review of a trained Learner: what it gets wrong, and where it looked, as files."""

from pathlib import Path

from fastai.learner import Learner

from atomic import replacing
from csv_file import write_csv
from interpret import plots
from interpret.faithfulness import faithfulness
from interpret.figures import save_figure
from interpret.interpretation import GradCAMInterpretation
from interpret.per_class import per_class


def review(learn: Learner, out: str | Path, seconds: float = 0.0) -> GradCAMInterpretation:
    """One pass over the test set; its mistakes, as pictures and as `mistakes.csv`, and `per_class.csv` go to `out`.

    Whether Grad-CAM says anything about this model is measured for 30 s, or a tenth of the `seconds` that the run took
    if that is longer, on at most 100 images, as `faithfulness.csv`. A model that Grad-CAM can't explain goes without.
    """
    out = Path(out)
    interp = GradCAMInterpretation.from_learner(learn)
    write_csv(interp.mistakes(k=None), out / 'mistakes.csv')
    write_csv(per_class(interp), out / 'per_class.csv')
    save_figure(plots.plot_confusion(interp.confusion_matrix(), interp.vocab), out / 'plots/confusion_matrix.png')
    try:
        interp.faithfulness = faithfulness(interp, seconds=max(30, seconds / 10))
    except ValueError as e:
        print(f'no Grad-CAM: {e}')
        return interp
    with replacing(out / 'faithfulness.csv') as part:
        interp.faithfulness.to_csv(part)
    save_figure(interp.plot_gradcam(25), out / 'plots/gradcam_mistakes.png')
    return interp
