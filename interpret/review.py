"""Review a trained Learner: write its mistakes and their Grad-CAM maps to files."""

from os.path import expanduser
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import torch
from fastai.learner import Learner
from pandas import isna

from callbacks.history import kept_epoch
from config.options import Config
from config.saved import read_config
from data.duplicates import about_leaked, leaked, write_duplicates
from data.verify import unbalanced_line
from interpret.confusion import plot_confusion
from interpret.corrections import about_corrected, read_verdicts, write_corrected
from interpret.faithfulness import faithfulness
from interpret.hooks import NoMaps
from interpret.interpretation import GradCAMInterpretation
from interpret.predictions import write_predictions
from interpret.report.model_card import write_card
from interpret.report.page import write_report
from runtime.csv_file import write_csv
from runtime.errors import printable
from runtime.figures import save_figure
from runtime.files import fingerprint_contents, replacing, write_json
from runtime.processes import on_rank0
from runtime.run_folder import locked
from training.lr_finder import read_sweep
from training.memory import keep_freed_memory
from training.plots import plot_history, plot_history_panels
from training.saved_run import load_run, read_history, read_summary


def review(learn: Learner, out: str | Path, seconds: float = 0.0) -> GradCAMInterpretation:
    """Predict the test set once; write its mistakes (pictures and `mistakes.csv`) and `per_class.csv` to `out`.

    `faithfulness.csv` measures Grad-CAM on at most 100 images for 30 s, or for a tenth of the run's `seconds` if that
    is longer. A model that Grad-CAM can't explain gets no maps.
    """
    keep_freed_memory()
    out = Path(out)
    interp = GradCAMInterpretation.from_learner(learn)
    write_csv(interp.mistakes(k=None), out / 'mistakes.csv')
    write_csv(interp.per_class(), out / 'per_class.csv')
    save_figure(plot_confusion(interp.confusion_matrix(), interp.vocab), out / 'plots/confusion_matrix.png')
    try:
        interp.faithfulness = faithfulness(interp, seconds=max(30, seconds / 10))
    except NoMaps as e:
        print(f'no Grad-CAM: {e}')
        return interp
    with replacing(out / 'faithfulness.csv') as part:
        interp.faithfulness.to_csv(part)
    save_figure(interp.plot_gradcam(25), out / 'plots/gradcam_mistakes.png')
    return interp


CIFAR10 = 'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'

# `fingerprint_contents` of the test images of JPEG CIFAR-10, whose PNG files at fast.ai have no published digest.
JPEG_CIFAR10 = '60b2c77e732cde089eaff5a1b8a3827c9ac7e376cd38fc069e8789e96b73b236'
# As the course project reports: ResNet-18 on the original CIFAR-10, the best of 50 epochs, chosen on the test set.
COURSE_PROJECT = {'max_train_accuracy': 0.9176, 'test_accuracy': 0.9033}


def review_run(learn: Learner, history: pd.DataFrame, config: Config) -> GradCAMInterpretation | None:
    """Review the kept weights and write a finished run's results: pictures, tables, summary, card and page.

    Returns the interpretation; None on other ranks than 0, and if a complete page was there already, which is kept.
    """
    interps = []  # a list, since an interpretation is too large to be sent to the other ranks
    on_rank0(lambda: interps.append(_review_once(learn, history, config)))()
    return interps[0] if interps else None


def _review_once(learn: Learner, history: pd.DataFrame, config: Config) -> GradCAMInterpretation | None:
    run, begun = learn.path, perf_counter()
    page, weights = run / 'report.html', run / 'models/best.pth'
    if page.is_file() and page.stat().st_mtime >= weights.stat().st_mtime:
        return print(f'the review is complete: {printable(page)}')
    save_figure(plot_history(history), run / 'plots/accuracy.png')
    save_figure(plot_history_panels(history), run / 'plots/accuracy_loss.png')
    sweep = read_sweep(learn)
    lr, swept = (sweep.lr, {'sweep': sweep.seconds}) if sweep else (learn.recipe.lr, {})
    phases = {'images': learn.dls.seconds, **swept}
    known = {'lr': lr, 'seconds': sum(swept.values()) + history.seconds.sum(), 'phases': phases}
    return _write_review(learn, history, config, known, begun)


def _write_review(
    learn: Learner,
    history: pd.DataFrame,
    config: Config,
    known: dict[str, Any],
    begun: float,
    verdicts: pd.DataFrame | None = None,
) -> GradCAMInterpretation:
    """Review the test set, write `summary.json`, the model card and the page, and print the accuracies.

    `known` are values as of `read_summary`, and `begun` is the `perf_counter()` at which the review began. The
    course project's accuracies are shown if the test images are CIFAR-10's. If some leaked, the accuracy without them
    is printed too, and with `verdicts` (of `read_verdicts`) the one with corrected labels.
    """
    test_selected_on = config.valid == 'test'
    course = COURSE_PROJECT if _tests_on_cifar10(learn, config) else None
    interp, best = review(learn, learn.path, known['seconds']), kept_epoch(history)
    phases = {**known['phases'], 'training': history.seconds.sum()}
    dls, leaks = learn.dls, leaked(learn.dls.duplicates)
    right = interp.decoded == interp.targs
    new = torch.tensor([file.relative_to(dls.path).as_posix() not in leaks for file in interp.dl.dataset.items])
    n_leaked, of_new = (~new).sum().item(), right[new].float().mean().item() if new.any() else None
    summary = {
        'parameters': sum(p.numel() for p in learn.model.parameters()),
        'lr': known['lr'],
        'best_epoch': int(best.epoch),
        'best_valid_accuracy': None if isna(best.valid_accuracy) else best.valid_accuracy,  # no validation images
        'max_train_accuracy': history.train_accuracy.max(),
        'test_accuracy': right.float().mean().item(),
        **interp.scores(),
        'leaked_test_images': n_leaked,
        'test_accuracy_without_leaked': of_new,
        'leak': about_leaked(n_leaked, len(new), of_new),
        'test_loss': interp.losses.mean().item(),
        'test_selected_on': test_selected_on,
        'training_images': dls.class_counts,
        'imbalance': unbalanced_line(dls.class_counts),
        'seconds': round(known['seconds'], 1),
        'phases': {name: round(seconds, 1) for name, seconds in phases.items()},
        'course_project': course,
        'corrected': write_corrected(interp, verdicts, learn.path),
    }
    write_json(learn.path / 'summary.json', summary)
    write_card(interp, summary)
    if dls.unlabelled:
        write_predictions(learn.path, dls.path, dls.unlabelled)
    write_report(interp, learn.path)
    summary['phases']['review'] = round(perf_counter() - begun, 1)
    write_json(learn.path / 'summary.json', summary)
    print('{:20} {:>9}'.format('', 'this run') + ' course project (CIFAR-10)' * bool(course))
    for key in COURSE_PROJECT:
        print(f'{key.replace("_", " "):20} {summary[key]:>9.2%}' + (f' {course[key]:>25.2%}' if course else ''))
    if summary['leak']:
        print(summary['leak'])
    if corrected := summary['corrected']:
        print(about_corrected(corrected))
    if course:
        print("The course project's epoch was chosen by its test set, and its dropout stayed on in evaluation.")
    if test_selected_on:
        print('This test accuracy is optimistic: the epoch was chosen on the test set.')
    print(', '.join(f'{seconds:,.0f} s {name}' for name, seconds in summary['phases'].items()))
    print(f'weights, tables and pictures: {printable(learn.path)}')
    print(f'page to review the mistakes: {printable(learn.path / "report.html")}')
    return interp


def _tests_on_cifar10(learn: Learner, config: Config) -> bool:
    """Whether the test images are CIFAR-10's: from `--data cifar10`, or JPEG CIFAR-10's in any folder."""
    if tuple(learn.dls.vocab) != CIFAR10:
        return False
    return config.data == 'cifar10' or fingerprint_contents(learn.dls[2].dataset.items) == JPEG_CIFAR10


@on_rank0
def review_again(run: str | Path, given: dict[str, Any]) -> None:
    """Review a finished run again, without training; `given` may have `data`, `workers` and `verdicts`.

    `verdicts` is a file that the page exported: its corrected labels give a second accuracy and confusion matrix.
    """
    given = dict(given)
    file = given.pop('verdicts', None)
    verdicts = read_verdicts(Path(expanduser(file))) if file else None
    learn, begun = load_run(run, **given), perf_counter()
    saved, known, history = read_config(learn.path), read_summary(learn.path), read_history(learn.path)
    with locked(learn.path):
        write_duplicates(learn.path, learn.dls.duplicates)
        _write_review(learn, history, saved.config, known, begun, verdicts)
