"""Configs with something wrong end in one sentence before anything starts."""
import random
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mutations import as_lists, mutate, places

from mmreuse.engine.configs.config_check import check_config
from mmreuse.engine.configs.options import load_config
from mmreuse.errors import ConfigError
from mmreuse.utils.configs.keys import drop_helpers

ROOT = Path(__file__).resolve().parents[2]
SMALL = ['pair_digits', 'module_digits', 'merge_digits', 'resnet_digits', 'vit_digits', 'half-a_digits']
#: Read and checked, key by key, by what they belong to once it is built; names of a user's own; a library's arguments.
ELSEWHERE = re.compile(r'default_hooks.\w+$|classes|tasks|modularization|features|sources|base|dist_cfg|arch|args')


@pytest.fixture(autouse=True)
def _scope(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    init_default_scope('mmreuse')


def load(name: str) -> dict:
    cfg = load_config(f'configs/quickstart/{name}.py')
    drop_helpers(cfg)
    return as_lists(cfg.to_dict())


def problem(values: dict) -> str | None:
    """The message of the check, None where it finds nothing wrong. Any other exception is a failure."""
    try:
        check_config(Config(values))
    except ConfigError as error:
        return str(error)
    return None


@pytest.fixture(scope='module', params=SMALL)
def config(request) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return load(request.param)


def test_what_is_right_passes(config):
    assert problem(config) is None


def test_every_misspelt_key_and_type_is_found(config):
    draw = random.Random(0)
    known = [path for path in places(config)
             if isinstance(path[-1], str) and not ELSEWHERE.search('.'.join(map(str, path)))]
    for path in draw.sample(known, 30):
        message = problem(mutate(config, path, 'key', draw))
        assert message is not None, path
        assert '\n' not in message
    for path in [path for path in places(config) if path[-1] == 'type']:
        message = problem(mutate(config, path, 'type', draw))
        assert message is not None, path
        assert '\n' not in message and 'there is no' in message


@pytest.mark.parametrize('kind', ['value', 'absent'])
def test_other_values_and_missing_ones_raise_nothing_else(config, kind):
    draw = random.Random(1)
    for path in draw.sample(list(places(config)), 40):
        assert '\n' not in (problem(mutate(config, path, kind, draw)) or '')


@pytest.mark.parametrize('change, message', [
    (dict(train_dataloader=dict(batch_size=0)), 'train_dataloader.batch_size = 0: give a number above 0'),
    (dict(train_dataloader=dict(batch_size=2.5)), 'batch_size = 2.5 is no whole number'),
    (dict(optim_wrapper=dict(optimizer=dict(lr=float('nan')))), 'optim_wrapper.optimizer.lr is not a number'),
    (dict(optim_wrapper=dict(optimizer=dict(lr='fast'))), "lr = 'fast' is a text"),
    (dict(randomness=dict(seed=-1)), 'seeds are whole numbers from 0 to'),
    (dict(randomness=dict(seed=2 ** 32)), 'seeds are whole numbers from 0 to'),
    (dict(model=dict(backbone=dict(depth=2.5))), 'model.backbone.depth = 2.5: CifarResNet takes int'),
    (dict(test_evaluator=dict(type='mmpretrain.Acuracy')), "Nearest: 'mmpretrain.Accuracy'"),
    (dict(test_dataloader=dict(dataset=dict(splits='val'))), "Digits takes no 'splits'. Nearest: 'split'"),
    (dict(test_dataloader=dict(sampler=dict(type='Sampler'))), "there is no data sampler 'Sampler'"),
    (dict(train_cfg=dict(max_epochs=-1)), 'max_epochs = -1: give 0 or more'),
    (dict(param_scheduler=dict(_delete_=True, type='LinearLR', begin=5, end=5)), 'begin = 5 is not before end = 5'),
    (dict(test_cfg=None), 'test_dataloader and test_evaluator without test_cfg'),
    (dict(custom_hooks=[dict(type='PruneHook')]), "PruneHook needs 'sparsity'"),
    (dict(custom_hooks=[dict(type='PruneHook', sparsity=1.5)]), 'custom_hooks[0]'),
    (dict(custom_hooks=[dict(type='PruneHook', sparsity=0.5, saliency='magnitud')]), "Nearest: 'magnitude'"),
    (dict(mode=dict()), "nothing reads the key 'mode'"),
])
def test_mistakes_are_named_with_their_place(change, message):
    values = load('resnet_digits')
    if 'mode' in change:
        values.pop('model')
    config = Config(Config._merge_a_into_b(change, Config(values)._cfg_dict))
    assert message in problem(config.to_dict())


def test_a_schedule_that_begins_too_late_is_told_of(monkeypatch):
    said = []
    monkeypatch.setattr('mmreuse.engine.configs.config_check.print_log', lambda text, *_: said.append(text))
    values = load('resnet_digits')
    values['param_scheduler'] = dict(type='LinearLR', begin=500)
    assert not problem(values)
    assert 'begins at epoch 500' in said[0] and 'no effect' in said[0]
