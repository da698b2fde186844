"""Distillation as a job: an ordinary run in its folder."""
import pytest
import torch
from test_distill import images, net

from mmreuse.distillation import same_classes
from mmreuse.distillation.distill import agreement
from mmreuse.engine.jobs import distill, find_job
from mmreuse.engine.jobs.job import calibrated_from_random, equal_cost_network
from mmreuse.graph import copy_model


def test_job_brings_a_changed_network_nearer_and_can_be_compared(tmp_path):
    teacher, data = net(), images(640)
    changed = copy_model(teacher)
    with torch.no_grad():
        changed[0].weight[8:] = 0
    given = dict(images=list(data[:512].split(64)), seed=0, folder=tmp_path)
    options = dict(epochs=10, optimizer=dict(type='AdamW', lr=0.01))
    result = distill([changed, teacher], **given, **options)
    before, after = (agreement(each, same_classes(each, [teacher]), data[512:]) for each in (changed, result))
    assert after > before + 10 and not result.training
    again = distill([changed, teacher], **given, **options)  # found finished in the folder
    assert all(torch.equal(x, y) for x, y in zip(result.parameters(), again.parameters(), strict=True))
    job = find_job(dict(type='distill', **options))
    other = equal_cost_network(job, [changed, teacher], result, **given)
    assert not torch.equal(other[0].weight, result[0].weight)  # from random weights


@pytest.mark.parametrize('renormalizer, calibrates', [
    ('auto', True), (dict(type='auto', candidates=['reset', ['reset', 'calibrate']]), True),
    (dict(type='auto', candidates=['reset']), False)])
def test_what_may_choose_to_calibrate_stands_beside_its_control_too(renormalizer, calibrates):
    networks = [net(), net(seed=1)]
    given = dict(images=[images(64)], validation=[(images(64), torch.arange(64) % 5)], seed=0)
    job = find_job(dict(type='merge', matcher='identity', renormalizers=[renormalizer]))
    assert (calibrated_from_random(job, networks, **given) is not None) == calibrates


@pytest.mark.parametrize('options, count', [
    (dict(type='renormalize'), 2), (dict(type='merge', matcher='permute'), 2),
    (dict(type='prune_channels', target=.6), 1), (dict(type='prune', sparsity=.5), 1)])
def test_what_calibrates_can_be_compared_with_the_same_from_random_weights(options, count):
    networks = [net(seed=5 + number) for number in range(count)]
    given = dict(images=[images(64)], labelled=[images(64)], seed=0)
    job = find_job(options | dict(renormalizers=[dict(type='calibrate', ridge=.01)]))
    own, other, again = job(networks, **job.accepted(given)), *(
        calibrated_from_random(job, networks, **given) for _ in range(2))
    for x, y, z in zip(own.parameters(), other.parameters(), again.parameters(), strict=True):
        assert torch.equal(y, z) and x.shape == y.shape
    first = [next(each for each in network.parameters() if each.dim() > 1) for network in (own, other)]
    assert not torch.equal(*first) and torch.equal(*(each == 0 for each in first))
    assert calibrated_from_random(find_job(options | dict(renormalizers=[])), networks, **given) is None
