"""Modules as jobs: several problems of one network in one file, and what they learn from it."""
import pytest
import torch
from job_nets import DIGITS, config, model, random_file, run
from test_pipeline import pipeline, table

from mmreuse.engine.runners.class_places import problem_among
from mmreuse.errors import ConfigError
from mmreuse.networks import describe, load, modules_of, record_of
from mmreuse.networks.kept_outputs import kept_outputs
from mmreuse.utils.cost.complexity import count_macs
from mmreuse.utils.files.io import state_hash

PROBLEMS = dict(three=['3'], low=[['0', '6', '8'], ['1', '7']])
TEST = dict(batch_size=64, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
    type='ModuleProblem', classes=PROBLEMS['low'][:1], dataset=dict(
        type='Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')])))


def test_modules_of_several_problems_are_one_file_and_learn_from_its_network(tmp_path):
    net = dict(name='net', job=dict(type='train', model=model(), epochs=2, optimizer=dict(type='AdamW', lr=3e-3)))
    parts = dict(name='parts', networks=['net'], job=dict(
        type='modularize_channels', problems=PROBLEMS, target=1))
    taught = dict(name='taught', networks=['parts'], job=dict(
        type='distil_modules', steps=20, views=1, lr=3e-3, offsets=True))
    one = dict(name='one', networks=['net'], test_dataloader=TEST, job=dict(
        type='modularize_channels', classes=PROBLEMS['low'][:1], target=0.5, multiple=4, samples=64))
    metrics = run(pipeline(tmp_path, net, parts, taught, one))
    folder = tmp_path / 'pipeline'
    base, held = (load(folder / name / 'network.safetensors') for name in ('net', 'parts'))
    image = torch.zeros(1, 3, 8, 8)
    assert state_hash(held) == state_hash(base) and list(modules_of(held)) == list(PROBLEMS)
    for name in PROBLEMS:
        module = load(f"{folder / 'parts' / 'network.safetensors'}#{name}")
        own = {key.rpartition('/')[2]: value for key, value in metrics.items()
               if key.startswith(f'parts/modules/{name}/')}
        assert own == record_of(module).metrics and record_of(module).preprocessing == record_of(held).preprocessing
        assert own['macs'] == count_macs(module, image) < metrics['net/macs']
        assert own['accuracy'] > 85 and own['original'] > 90
        assert not any(key.startswith('parts/equal_cost') for key in metrics)  # no channel is chosen
        assert metrics[f'taught/modules/{name}/accuracy'] > 85
        assert metrics[f'taught/equal_cost/modules/{name}/macs'] == own['macs']
        learned = load(f"{folder / 'taught' / 'network.safetensors'}#{name}")
        assert state_hash(learned) != state_hash(module) and 'distilled for 20 steps' in describe(learned)
    rows = table(tmp_path)
    assert set(rows) == {'net', 'parts', 'parts#three', 'parts#low', 'taught', 'taught#three', 'taught#low', 'one'}
    assert float(rows['parts#low']['before']) == metrics['parts/modules/low/original']
    assert rows['taught#low']['equal_cost']
    # Of one module the network says what its scores mean for the labels, which are not its classes.
    assert metrics['one/accuracy/top1'] > 85 and metrics['one/sources/net/accuracy/top1'] > 90
    assert metrics['one/equal_cost/macs'] <= 0.5 * metrics['net/macs'] >= metrics['one/macs']
    assert list(record_of(load(folder / 'one' / 'network.safetensors')).classes) == ['0+6+8', 'rest']


def test_a_stage_takes_a_module_of_another(tmp_path):
    file = random_file(tmp_path / 'a.safetensors', names=DIGITS)
    parts = dict(name='parts', networks=[file], job=dict(type='modularize_channels', problems=PROBLEMS, target=0.6))
    taught = dict(name='taught', networks=['parts'], job=dict(type='distil_modules', steps=2, views=1))
    test = {**TEST, 'dataset': {**TEST['dataset'], 'classes': PROBLEMS['low']}}
    small = dict(name='small', networks=['taught#low'], test_dataloader=test, job=dict(
        type='prune_channels', target=.7))
    calibrated = dict(name='calibrated', networks=['small', 'taught#low'], controls=False, job=dict(
        type='renormalize', renormalizers=[dict(type='calibrate', ridge=.01)]))
    metrics = run(pipeline(tmp_path, parts, taught, small, calibrated))
    folder = tmp_path / 'pipeline'
    network, base = (load(each) for each in (folder / 'small/network.safetensors',
                                            f"{folder / 'taught/network.safetensors'}#low"))
    assert list(record_of(network).classes) == ['0+6+8', '1+7'] and kept_outputs(network, base)
    whole, kept = load(file), kept_outputs(network, load(file))  # through the module, and its distillation
    widths = [[len(next(each.get_submodule(name).parameters())) for name in kept] for each in (network, whole)]
    assert list(map(len, kept.values())) == widths[0] and sum(widths[0]) < 0.8 * sum(widths[1])
    assert metrics['small/sources/taught#low/macs'] == metrics['taught/modules/low/macs'] > metrics['small/macs']
    assert metrics['small/origins/a/macs'] > metrics['small/macs']
    assert set(table(tmp_path)) == {'a', 'parts', 'parts#three', 'parts#low', 'taught', 'taught#three', 'taught#low',
                                    'small', 'calibrated'}
    again = run(tmp_path / 'pipeline.py')  # up to date
    assert {key: again[key] for key in metrics} == metrics


@pytest.mark.parametrize(('reference', 'message'), [
    ('parts#lo', "networks.0. = 'parts#lo': the stage 'parts' makes no module 'lo'. Nearest: 'low'"),
    ('net#low', "the stage 'net' makes no module 'low'. It makes none"),
    ('part#low', "neither a stage nor a file. Nearest: 'parts'")])
def test_modules_that_no_stage_makes_are_named_before_the_first_one_runs(reference, message, tmp_path):
    file = random_file(tmp_path / 'a.safetensors', names=DIGITS)
    net = dict(name='net', networks=[file], job=dict(type='prune', sparsity=.5))
    parts = dict(name='parts', networks=['net'], job=dict(type='modularize_channels', problems=PROBLEMS, target=0.6))
    small = dict(name='small', networks=[reference], test_dataloader=TEST, job=dict(type='compact'))
    with pytest.raises(ConfigError, match=message):
        run(pipeline(tmp_path, net, parts, small))
    assert not (tmp_path / 'pipeline/net/network.safetensors').exists()


def test_labels_of_a_module_are_found_among_classes():
    assert problem_among(['3', 'rest'], DIGITS).groups == ((3,),) and problem_among(['3', 'rest'], 10).rest
    assert problem_among(['8+0', '1'], DIGITS).groups == ((8, 0), (1,))
    assert problem_among(['3', '4'], DIGITS) is None and problem_among(['30', 'rest'], DIGITS) is None
    assert problem_among(10, DIGITS) is None


@pytest.mark.parametrize(('job', 'message'), [
    (dict(type='modularize_channels'), 'give either classes, of one module, or problems'),
    (dict(type='modularize_channels', classes=['3'], problems=PROBLEMS), 'give either classes'),
    (dict(type='modularize_channels', problems=dict(a=['x'])), "problem 'a': the network has no class 'x'"),
    (dict(type='modularize_channels', problems=PROBLEMS, target=3), 'target=3'),
    (dict(type='distil_modules', teachers=['jont']), "'jont'"),
    (dict(type='distil_modules', steps=1), 'the network has no modules. Name a file of modules')])
def test_mistakes_are_named(job, message, tmp_path):
    file = random_file(tmp_path / 'a.safetensors', names=DIGITS)
    with pytest.raises(ConfigError, match=message):
        run(config(tmp_path, job=job, networks=[file]))
