import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from interpret.gradcam import grad_cam
from runtime.errors import UserError
from train_fastai import fit
from training.compile import compiled, refuse_uncompilable

needs_compiler = pytest.mark.skipif(not shutil.which('g++'), reason='torch.compile needs a C++ compiler')


def test_the_model_is_compiled_only_within_the_context_and_in_training():
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(torch, 'compile', lambda function, dynamic: lambda x: 10 * function(x))
        with compiled(layer):
            assert layer(torch.ones(1, 2)).item() == 20
            assert layer.eval()(torch.ones(1, 2)).item() == 2
            assert layer.train()(torch.ones(1, 2)).item() == 20
            assert list(layer.state_dict()) == ['weight']
        with pytest.raises(RuntimeError), compiled(layer):
            layer(torch.ones(1, 3))
    assert layer(torch.ones(1, 2)).item() == 2


@needs_compiler
@pytest.mark.slow
def test_compiled_training_equals_eager_training(learner, monkeypatch):
    monkeypatch.setattr('models.winograd.convolution.CHANNELS', 1)
    monkeypatch.setattr('models.winograd.convolution.PIXELS', 1)
    histories, maps, graphs = [], [], []
    for compile in False, True:
        counters.clear()
        torch.manual_seed(0)
        learn = learner()
        histories.append(fit(learn, 2, 0.01, compile=compile))
        graphs.append(counters['stats']['unique_graphs'])
        x = learn.dls.valid.one_batch()[0]
        maps.append(grad_cam(learn.model, x, layers=['layer1', 'layer4']))
    columns = ['train_loss', 'valid_loss', 'valid_accuracy']
    torch.testing.assert_close(*(torch.tensor(h[columns].to_numpy()) for h in histories), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*maps, atol=1e-2, rtol=0)  # maps range from 0 to 1
    assert (graphs[0], graphs[1] > 0) == (0, True)
    assert not counters['graph_break']  # Winograd convolutions cause none either


@needs_compiler
@pytest.mark.slow
def test_compiled_training_resumes_bit_for_bit(learner):
    ends = []
    for parts in [2], [1, 2]:
        torch.manual_seed(0)
        learn = learner()
        for epochs in parts:
            fit(learn, epochs, 0.01, resume=True, compile=True)
        ends.append(learn.model.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_without_a_compiler_an_error_says_how_to_train(monkeypatch):
    def broken(x):
        raise RuntimeError('Compiler: c++ is not found.\nSet TORCHDYNAMO_VERBOSE=1')

    monkeypatch.setattr(torch, 'compile', lambda function: broken)
    with pytest.raises(UserError) as e:
        refuse_uncompilable()
    assert str(e.value) == (
        '--compile: torch.compile fails on this machine (Compiler: c++ is not found.): train without it (with '
        '--config: --no-compile; to resume: set it to false in config.json)'
    )
