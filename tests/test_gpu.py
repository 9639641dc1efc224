"""All steps on a GPU; results are compared with a CPU's."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from fastai.callback.core import Callback
from torch import Tensor

from interpret.gradcam import grad_cam
from train_fastai import PLATEAU, SPEEDRUN, GradCAMInterpretation, find_lr, fit, get_dls, get_learner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.fixture(params=[PLATEAU, SPEEDRUN], ids=['plateau', 'speedrun'])
def learn(request, folder, tmp_path):
    (tmp_path / 'run/models').mkdir(parents=True)
    dls = get_dls(folder, replace(request.param, bs=4, sweep_steps=3), valid=0.25)
    assert dls.device.type == 'cuda'
    return get_learner(dls, path=tmp_path / 'run')


@pytest.mark.parametrize('compile', [False, True])
def test_training_resumes_and_predicts_as_on_a_cpu(learn, compile):
    find_lr(learn)
    fit(learn, 1, 0.01, compile=compile)
    history = fit(learn, 2, 0.01, resume=True, compile=compile)
    assert history.epoch.tolist() == [0, 1]
    interp = GradCAMInterpretation.from_learner(learn)
    learn.dls.to('cpu')
    learn.model.cpu()
    expected = learn.to_fp32().get_preds(dl=learn.dls[2])[0]
    assert interp.preds.dtype == torch.float32
    torch.testing.assert_close(interp.preds, expected.as_subclass(Tensor), rtol=0, atol=0.05)  # bf16


class NoWait(Callback):
    """From the second epoch on, raise an error if the host waits for the GPU after it has loaded a batch."""

    order = 100

    def before_batch(self):
        torch.cuda.set_sync_debug_mode('error' if self.epoch else 'default')

    def after_batch(self):
        torch.cuda.set_sync_debug_mode('default')


def test_no_batch_waits_for_the_gpu(learn):
    try:
        history = fit(learn, 3, 0.01, cbs=[NoWait()])
    finally:
        torch.cuda.set_sync_debug_mode('default')
    losses = learn.recorder.losses
    assert {loss.device.type for loss in losses} == {'cpu'}
    assert len(losses) == 3 * len(learn.dls.train)
    assert history.train_loss.iloc[-1] == losses[-1].item()


def test_maps_equal_those_of_a_cpu(learn):
    x, _ = learn.dls[2].one_batch()
    maps = grad_cam(learn.model.cuda(), x)
    expected = grad_cam(deepcopy(learn.model).cpu(), x.cpu())
    assert list(maps) == list(expected)
    torch.testing.assert_close([m.cpu() for m in maps.values()], [*expected.values()], rtol=0, atol=0.05)  # TF32
