"""Modules learned in one call."""
import copy
import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from mmreuse.engine.jobs.modularize import modularize as modularize_job
from mmreuse.errors import ConfigError, DataError
from mmreuse.modularization import learner, modularize, snapshots


@pytest.fixture(scope='module')
def blobs():
    """Four classes around points of their own, and a network that tells them apart."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(100)
    images = 2 * torch.randn(4, 10)[labels] + torch.randn(400, 10)
    net = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                        nn.Linear(64, 4))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    return net.eval(), images, labels


@pytest.mark.parametrize('classes', [[2], [3, 1]])
def test_a_module_in_one_call(blobs, classes):
    net, images, labels = blobs
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    module = modularize(net, (images, labels), classes, ratio=.2, epochs=20)
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())
    assert module[0].state_dict().keys() == before.keys()
    masked = [name for name, parameter in net.named_parameters() if not name.startswith('1.')]
    kept = sum(int(module[0].state_dict()[name].count_nonzero()) for name in masked)
    assert kept <= .2 * sum(before[name].numel() for name in masked)
    own = [labels == label for label in classes] + [~torch.isin(labels, torch.tensor(classes))] * (len(classes) == 1)
    recalls = [float((module(images[chosen]).argmax(1) == number).double().mean()) for number, chosen in enumerate(own)]
    assert min(recalls) > .9
    again = modularize(net, list(zip(images.split(50), labels.split(50), strict=True)), classes, ratio=.2, epochs=20)
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize('classes, options, error, message', [
    ([2], dict(ratio=0), ConfigError, 'share of 0'), ([1, 1], {}, ConfigError, 'distinct'),
    ([1], dict(epochs=0), ConfigError, 'epochs=0'), ([5], {}, DataError, r'data has no samples of 5'),
    ([0, 7], {}, DataError, r'no samples of 7'), ([0.5], {}, ConfigError, 'not ids of classes'),
    (['cat'], {}, ConfigError, 'not ids of classes'), (3, {}, ConfigError, 'not ids of classes'),
    ([1], dict(end=5), ConfigError, r'end=5 has to be in \[0, 1\]'), ([1], dict(lr=0), ConfigError, 'lr=0'),
    ([1], dict(head_lr=float('nan')), ConfigError, 'head_lr=nan')])
def test_what_cannot_be_learned(blobs, classes, options, error, message):
    net, images, labels = blobs
    with pytest.raises(error, match=message):
        modularize(net, (images, labels), classes, **options)


def test_one_class_needs_others(blobs):
    net, images, labels = blobs
    own = labels == 2
    with pytest.raises(DataError, match='data has no samples of the rest'):
        modularize(net, (images[own], labels[own]), [2])
    with pytest.raises(DataError, match='validation has no samples of 2'):
        modularize(net, (images, labels), [2], validation=(images[~own], labels[~own]))


def with_dropout(net):
    """A network that draws in training."""
    return nn.Sequential(*net[:3], nn.Dropout(0.3), *net[3:]).eval()


def equal(first, second):
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize('classes', [[2], [3, 1]])
def test_a_seed_is_a_module_and_global_generators_are_left_alone(blobs, classes):
    net, images, labels = blobs
    net, made, drawn = with_dropout(net), [], []
    for state in (1, 2):
        torch.manual_seed(state)
        made.append(modularize(net, (images, labels), classes, epochs=1, seed=5))
        drawn.append(torch.rand(3))
        torch.manual_seed(state)
        assert torch.equal(torch.rand(3), drawn[-1]), 'the global generator was used'
    assert equal(*made)
    assert not equal(made[0], modularize(net, (images, labels), classes, epochs=1, seed=6))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_precisions(blobs, dtype):
    net, images, labels = blobs
    net = copy.deepcopy(net).to(dtype)
    module = modularize(net, (images.to(dtype), labels), [2])
    assert {each.dtype for each in module.state_dict().values() if each.is_floating_point()} == {dtype}
    assert module(images.to(dtype)).dtype is dtype
    assert min(recalls_of(module, images.to(dtype), labels, 2)) > .9 and module.report.accuracy() > .9


def recalls_of(module, images, labels, label):
    with torch.no_grad():
        predicted, own = module(images).argmax(1), labels == label
    return (float((predicted[own] == 0).double().mean()), float((predicted[~own] == 1).double().mean()))


@pytest.mark.parametrize('classes', [{3, 1}, torch.tensor([1, 3]), np.array([1, 3]), (1, 3), range(1, 4, 2)])
def test_classes_in_any_collection(blobs, classes):
    net, images, labels = blobs
    assert equal(modularize(net, (images, labels), classes, epochs=1),
                 modularize(net, (images, labels), [1, 3], epochs=1))


def test_the_report_is_what_was_measured(blobs):
    net, images, labels = blobs
    module = modularize(net, (images[:200], labels[:200]), [2], validation=(images[200:], labels[200:]))
    report = module.report
    assert report.recalls['module'] == recalls_of(module, images[200:], labels[200:], 2)
    with torch.no_grad():
        own, predicted = labels[200:] == 2, net(images[200:]).argmax(1) == 2
    expected = [float(each.double().mean()) for each in (predicted[own], ~predicted[~own])]
    assert list(report.recalls['original']) == pytest.approx(expected)
    kept = sum(int(each.count_nonzero()) for name, each in module[0].named_parameters() if not name.startswith('1.'))
    total = sum(each.numel() for name, each in module[0].named_parameters() if not name.startswith('1.'))
    assert report.ratio == pytest.approx(kept / total, abs=1e-3) and report.ratio <= .15
    lines = str(report).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ['original', 'head', 'module']
    assert '200 samples of the validation data' in lines[-1]


def test_validation_data_choose_the_best_state(blobs):
    net, images, labels = blobs
    noise = torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    data, held = (images[:200] + 5 * noise, labels[:200]), (images[200:], labels[200:])
    options = dict(lr=.02, end=.3)
    last = modularize(net, data, [2], **options)
    best = modularize(net, data, [2], validation=held, **options)
    assert sum(recalls_of(best, *held, 2)) > sum(recalls_of(last, *held, 2))


def test_a_module_that_says_nothing_is_called_that(blobs, caplog):
    net, images, labels = blobs
    module = modularize(net, (images, labels), [2], ratio=.0005, epochs=1)
    assert module.report.constant
    assert re.search(r'The module is constant.*module 50.0%, a head on the whole network (9\d|100)\.\d%, chance 50',
                     caplog.text)
    caplog.clear()
    modularize(net, (images, labels), [2], ratio=.5, epochs=1)
    assert not caplog.text
    modularize(net, (images, labels.roll(1)[torch.randperm(400, generator=torch.Generator().manual_seed(0))]), [2],
               ratio=.5, epochs=1)
    assert 'The network itself hardly tells the class and the rest apart' in caplog.text


def test_few_images_are_enough_for_the_example_of_the_readme():
    """Class 3 of the digits with 400 images: found, and not found in everything."""
    pixels, targets = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    images, labels = torch.tensor(pixels).float().reshape(-1, 1, 8, 8)[order] / 8 - 1, torch.tensor(targets)[order]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(.2), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for places in torch.randperm(1000).repeat(8).split(50):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[places]), labels[places]).backward()
        optimizer.step()
    for label in (3, 8):
        module = modularize(net.eval(), (images[1000:1400], labels[1000:1400]), [label])
        found = recalls_of(module, images[1400:], labels[1400:], label)
        assert min(found) > .7 and sum(found) / 2 > .85


def test_a_killed_call_resumes_and_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    net, images, labels = blobs
    net = with_dropout(net)
    monkeypatch.setattr(snapshots, '_SECONDS', 0)
    monkeypatch.setattr(learner, '_LEAST_STEPS', 60)
    options = dict(classes=[2], epochs=1, labelled=(images[:200], labels[:200]),
                   validation=(images[200:], labels[200:]))
    loss, steps = learner._Learner._loss, []

    def stopped(self, places, last=47):
        steps.append(places)
        if len(steps) == last:
            raise KeyboardInterrupt
        return loss(self, places)

    whole = modularize_job([net], folder=tmp_path / 'whole', **options)
    monkeypatch.setattr(learner._Learner, '_loss', stopped)
    with pytest.raises(KeyboardInterrupt):
        modularize_job([net], folder=tmp_path / 'killed', **options)
    resumed = modularize_job([net], folder=tmp_path / 'killed', **options)
    assert len(steps) == 47 + 20, 'two for saliencies and 45 steps, of which 40 were kept of 60'
    assert equal(whole, resumed) and whole.report == resumed.report
    assert not equal(whole, modularize_job([net], folder=tmp_path / 'killed', **{**options, 'classes': [1]}))
