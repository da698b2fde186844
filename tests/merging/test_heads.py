"""Heads that were trained apart: kept by task, made one, or averaged only where they mean the same."""
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from mmreuse.apis import merge
from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import trace
from mmreuse.merging.partial.heads import place_of_head
from mmreuse.networks import create, load, save

TASKS = [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


def net(classes: int, seed: int, width: int = 12) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1),
        nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, classes)).eval()


@pytest.fixture(scope='module')
def digits():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)


@pytest.fixture(scope='module')
def trained(digits):
    """Two networks that know four and six of the digits, the first trained much longer than the second."""
    images, labels = (part[:1200] for part in digits)
    found = []
    for seed, (task, epochs) in enumerate(zip(TASKS, (12, 3), strict=True)):
        model = net(len(task), seed).train()
        own = torch.isin(labels, torch.tensor(task))
        x, y = images[own], torch.searchsorted(torch.tensor(task), labels[own])
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        for _ in range(epochs):
            for index in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[index]), y[index]).backward()
                optimizer.step()
        found.append(model.eval())
    return found


def test_heads_of_differing_classes_are_kept_by_default():
    models, images = [net(3, 0), net(5, 1)], torch.randn(70, 1, 8, 8)
    merged, _ = merge(models, images)
    found = merged(images[:2])
    assert [each.shape[1] for each in found] == [3, 5]
    for tail, model in zip(merged.tails, models, strict=True):
        assert [torch.equal(own, kept) for own, kept in zip(tail.parameters(), model[-1].parameters(), strict=True)]
        assert sum(parameter.numel() for parameter in tail.parameters()) == sum(
            parameter.numel() for parameter in model[-1].parameters())
    with pytest.raises(SpaceError, match='shape'):
        merge(models, images, heads='merge')


def test_heads_of_one_width_are_averaged_only_if_they_mean_the_same():
    models, images = [net(3, 0), net(3, 1)], torch.randn(70, 1, 8, 8)
    assert isinstance(merge(models, images)[0](images), tuple)
    assert isinstance(merge(models, images, class_names=[['a', 'b', 'c'], ['a', 'c', 'b']])[0](images), tuple)
    for options in (dict(heads='merge'), dict(class_names=['a', 'b', 'c']), dict(class_names=[['a', 'b', 'c']] * 2)):
        merged, _ = merge(models, images, **options)
        assert merged(images).shape == (70, 3) and merged.tails is None
    assert merged.class_names == ['a', 'b', 'c']
    assert merge(models[:1], images)[0](images).shape == (70, 3)


def test_one_output_ranks_the_classes_of_each_task_as_its_head_does(tmp_path):
    models = [create(f'{__name__}:net', classes=classes, seed=seed).eval() for seed, classes in enumerate((3, 5))]
    images = torch.randn(70, 1, 8, 8)
    names = [list('abc'), list('defgh')]
    (tasks, _), (one, _) = (merge(models, images, class_names=names, **heads) for heads in ({}, dict(heads='concat')))
    assert tasks.class_names == names and one.class_names == list('abcdefgh')
    scores = one(images)
    assert scores.shape == (70, 8)
    for own, joined in zip(tasks(images), scores.split([3, 5], 1), strict=True):
        assert torch.equal(own.argsort(1), joined.argsort(1))
        largest = joined.detach().amax(1)
        torch.testing.assert_close([float(largest.mean()), float(largest.std(correction=0))], [0., 1.], rtol=0,
                                   atol=1e-4)
    save(one, tmp_path / 'one.safetensors')
    again = load(tmp_path / 'one.safetensors', trust_code=True)
    assert torch.equal(again(images), scores) and again.class_names == one.class_names


def test_ten_classes_of_four_and_six(digits, trained):
    """Scores that were made comparable decide better among all classes than raw logits and than softmax per head."""
    images, labels = digits
    order = torch.tensor([label for task in TASKS for label in task])
    with torch.no_grad():
        one, _ = merge(trained, images[:400], heads='concat', stop='')  # nothing is merged: what the heads alone do
        raw = [model(images[1200:]) for model in trained]
        joint, *others = (float((order[scores.argmax(1)] == labels[1200:]).double().mean()) for scores in (
            one(images[1200:]), torch.cat(raw, 1), torch.cat([each.log_softmax(1) for each in raw], 1)))
        assert joint > max(others)
        merged, _ = merge(trained, images[:400], heads='concat')
        found = order[merged(images[1200:]).argmax(1)]
    alone = max(float((torch.tensor(task)[own.argmax(1)] == labels[1200:]).double().mean())
                for task, own in zip(TASKS, raw, strict=True))
    assert float((found == labels[1200:]).double().mean()) > alone


@pytest.mark.parametrize('options, message', [
    (dict(heads='joined'), "there is no kind of heads 'joined'. Known: 'concat', 'merge', 'tasks'"),
    (dict(heads='merge', stop='3'), 'keeps apart'),
    (dict(class_names=[list('abc')]), '1 lists for 2 models'),
    (dict(class_names=[list('abc'), list('de')]), '2 names for model 1, whose output is 3'),
    (dict(heads='merge', class_names=[list('abc'), list('def')]), 'other classes'),
    (dict(heads='concat', class_names=[list('abc'), list('cde')]), "class 'c' has two outputs")])
def test_choices_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        merge([net(3, 0), net(3, 1)], torch.randn(4, 1, 8, 8), **options)


def test_the_head_is_the_last_layer_with_weights():
    assert place_of_head(trace(net(3, 0), torch.zeros(1, 1, 8, 8))) == '7'
    assert place_of_head(trace(nn.Sequential(nn.Linear(4, 3)), torch.zeros(1, 4))) == ''
