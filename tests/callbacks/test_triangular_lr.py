import pytest

from callbacks.triangular_lr import Triangle


def test_rises_and_falls_with_the_trainings_progress(learner):
    learn = learner()
    triangle = Triangle([0.8])
    learn.fit(5, 0.1, cbs=triangle)  # 5 epochs of 4 batches
    lrs = triangle.hps['lr']
    assert len(lrs) == 20
    # 20% at the start, 100% after 23% of the training (4.6 batches), and 7% after batch 20
    assert lrs[0] == pytest.approx(0.16)
    assert lrs[2] == pytest.approx(0.8 * (0.2 + 0.8 * 2 / 4.6))
    assert lrs[10] == pytest.approx(0.8 * (1 - 0.93 * (10 - 4.6) / 15.4))
    assert lrs[19] == pytest.approx(0.8 * (1 - 0.93 * (19 - 4.6) / 15.4))


def test_each_group_has_its_own_rate(learner):
    learn = learner()
    learn.splitter = lambda model: [[model.fc.bias], [p for p in model.parameters() if p is not model.fc.bias]]
    learn.fit(1, 0.1, wd=[0.0, 0.0], cbs=Triangle([64.0, 1.0]))
    # 3 of 4 batches are done when the last begins
    last = 1 - 0.93 * (0.75 - 0.23) / 0.77
    assert [h['lr'] for h in learn.opt.hypers] == pytest.approx([64 * last, last])
