"""Gradients of single samples against a loop over samples."""
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample
from torch import nn

from mmreuse.errors import ConfigError, DataError, TraceError
from mmreuse.pruning import per_sample_gradients
from pruning.nets import make_loader, make_net

NAMES = ['conv1.weight', 'fc.weight']


def loop(net, loader, samples, average):
    images, labels = (torch.cat(parts)[:samples * average] for parts in zip(*loader, strict=True))
    rows = []
    for group, group_labels in zip(images.split(average), labels.split(average), strict=True):
        net.zero_grad()
        F.cross_entropy(net(group), group_labels).backward()
        rows.append(torch.cat([net.get_parameter(name).grad.flatten() for name in NAMES]))
    return torch.stack(rows)


@pytest.mark.parametrize('samples, average, chunk', [(24, 1, None), (24, 1, 5), (17, 1, 4), (8, 3, 3), (5, 4, None)])
def test_equals_a_loop(samples, average, chunk, tmp_path):
    net, loader = make_net(), make_loader()
    expected = loop(net, loader, samples, average)
    net.train()
    found = per_sample_gradients(net, loader, NAMES, samples=samples, average=average, chunk=chunk)
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-6)
    assert net.training and found.shapes['conv1.weight'] == (6, 3, 3, 3)
    torch.testing.assert_close(found.of('fc.weight'), expected[:, -24:], rtol=1e-4, atol=1e-6)
    mapped = per_sample_gradients(net, loader, NAMES, samples=samples, average=average, folder=tmp_path)
    torch.testing.assert_close(mapped.values, found.values)
    assert list(tmp_path.iterdir()) == []


def test_the_budget_is_exact():
    net, seen = make_net(), []
    net.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(1))

    class Counting:
        def __iter__(self):
            for batch in make_loader(40, 7):
                self.asked = getattr(self, 'asked', 0) + 7
                yield batch

    loader = Counting()
    found = per_sample_gradients(net, loader, NAMES, samples=5, average=3)
    assert found.values.shape[0] == 5 and loader.asked == 21  # 15 images are in the first three batches


def test_flatten_and_unflatten_are_inverse():
    gradients = per_sample_gradients(make_net(), make_loader(), NAMES, samples=2)
    tensors = {name: torch.randn(shape) for name, shape in gradients.shapes.items()}
    again = gradients.unflatten(gradients.flatten(tensors))
    assert all(torch.equal(again[name], tensors[name]) for name in NAMES)


def test_masked_columns_are_zero():
    net = make_net()
    masks = {name: torch.rand(net.get_parameter(name).shape) < 0.5 for name in NAMES}
    found = per_sample_gradients(net, make_loader(), NAMES, samples=6, masks=masks)
    for name in NAMES:
        mask = masks[name].flatten()
        assert (found.of(name)[:, ~mask] == 0).all() and (found.of(name)[:, mask] != 0).any()


def test_batches_of_mmpretrain():
    net, loader = make_net(), make_loader()
    dicts = [dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in labels])
             for images, labels in loader]
    found = per_sample_gradients(net, dicts, NAMES, samples=12)
    torch.testing.assert_close(found.values, per_sample_gradients(net, loader, NAMES, samples=12).values)


def test_too_few_samples():
    with pytest.raises(DataError, match='after 24 of 30'):
        per_sample_gradients(make_net(), make_loader(24), NAMES, samples=10, average=3)


@pytest.mark.parametrize('counts', [dict(samples=0), dict(samples=2, average=0)])
def test_counts_must_be_positive(counts):
    with pytest.raises(ConfigError, match='at least 1'):
        per_sample_gradients(make_net(), make_loader(), NAMES, **counts)


def test_labels_are_needed():
    with pytest.raises(DataError, match='no labels'):
        per_sample_gradients(make_net(), [torch.randn(4, 3, 5, 5)], NAMES, samples=4)


def test_a_gradient_that_is_not_finite_is_named():
    images = torch.randn(6, 3, 5, 5)
    images[4] = torch.inf
    with pytest.raises(DataError, match="sample 4 by 'conv1.weight'"):
        per_sample_gradients(make_net(), [(images, torch.zeros(6, dtype=torch.long))], NAMES, samples=6, chunk=2)


def test_a_net_that_vmap_cannot_run():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x):
            out = self.fc(x)
            return out if out.sum() > 0 else -out

    batch = torch.randn(3, 4), torch.zeros(3, dtype=torch.long)
    with pytest.raises(TraceError, match='vmap'):
        per_sample_gradients(Branching(), [batch], ['fc.weight'], samples=3)
