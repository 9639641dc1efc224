"""Review pages of twelve tiny images, opened in a real browser."""

import shutil
from contextlib import contextmanager

import pytest
import torch
from fastai.learner import Learner
from tiny import tiny_dls, tiny_net

from interpret.interpretation import GradCAMInterpretation

CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason='no chromium, chromium-browser or google-chrome in the PATH')

BLUE, GREEN, RED = VOCAB = ['=blue, "sky"', '<script>alert(1)</script>', 'röt & <b>rot']
# Predictions for four test images of each class: seven are wrong, three of them in one cell.
ANSWERS = [0, 1, 1, 1, 1, 0, 2, 1, 2, 2, 0, 1]
FILES = [f'test/{i}.png' for i in range(12)]
FILES[1:4] = ['a "quoted", name.png', '</script>.png', '+größe <img src=x onerror=alert(2)>.png']


def interpret(images, answers, vocab=VOCAB) -> GradCAMInterpretation:
    """`answers` as predictions of an untrained net; probabilities and losses sort the mistakes differently."""
    torch.manual_seed(0)
    dls = tiny_dls(images)
    targs, decoded = torch.arange(12) // 4, torch.tensor(answers)
    preds = torch.rand(12, len(vocab))
    preds[range(12), decoded] += 1
    interp = GradCAMInterpretation(
        Learner(dls, tiny_net(len(vocab), 2, 0.0)),
        dls[2],
        preds / preds.sum(1, keepdim=True),
        targs,
        5 * torch.rand(12),
    )
    interp.vocab, interp.dl.items = vocab, FILES
    return interp


@contextmanager
def opened(browser, path, **kwargs):
    """Open the page at `path`; check that it requests nothing else, reports no error and opens no dialog."""
    context = browser.new_context(**kwargs)
    page = context.new_page()
    asked, trouble = set(), []
    page.on('request', lambda request: asked.add(request.url))
    page.on('console', lambda message: trouble.append(message.text))
    page.on('pageerror', lambda error: trouble.append(str(error)))
    page.on('dialog', lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert trouble == []
    assert {url for url in asked if not url.startswith(('data:', 'blob:'))} == {path.as_uri()}
