"""Accuracy and cross-entropy of nets that are trained together."""
import pytest
import torch

from mmreuse.errors import DataError
from mmreuse.evaluation import NetAccuracy


def test_each_net_is_judged_by_its_own_scores():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 2, 5, generator=generator)
    labels = torch.randint(5, (20,), generator=generator)
    metric = NetAccuracy()
    for chosen in (slice(0, 12), slice(12, 20)):
        metric.process(None, [dict(net_scores=row, gt_label=label[None])
                              for row, label in zip(scores[chosen], labels[chosen], strict=True)])
    found = metric.compute_metrics(metric.results)
    for net in (0, 1):
        own = scores[:, net]
        assert found[f'accuracy_{net + 1}'] == pytest.approx(100 * float((own.argmax(1) == labels).double().mean()))
        expected = -own.double().log_softmax(1)[range(20), labels].mean()
        assert found[f'cross_entropy_{net + 1}'] == pytest.approx(float(expected), rel=1e-6)
    assert found['accuracy'] == pytest.approx((found['accuracy_1'] + found['accuracy_2']) / 2)


def test_other_models_are_told_apart():
    with pytest.raises(DataError, match=r'mmpretrain\.Accuracy'):
        NetAccuracy().process(None, [dict(gt_label=torch.tensor([1]))])
