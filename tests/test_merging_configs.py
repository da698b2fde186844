"""Every config under ``configs/zipit`` that merges: complete, and its model builds and merges with random weights."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.engine.merging import collect_moments, merge_sources, renormalize_merged
from mmreuse.merging.matching.requirements import needs_moments
from mmreuse.registry import HOOKS, MODELS
from mmreuse.utils.class_split import resolve_tasks

ROOT = Path(__file__).resolve().parents[1]
MERGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs/zipit').glob('*.py')
                if re.match('zipit|permute|average|git-rebasin|cca|ensemble', path.name))


@pytest.fixture(autouse=True)
def _scope(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    init_default_scope('mmreuse')


def sources_of(cfg: Config) -> list[Config]:
    found = []
    for source in cfg.model.sources:
        own = load_config(source.config, source.get('options'))
        # Class vectors may not have been made here; any others of the same number do.
        if own.model.head.type == 'TextEmbeddingHead':
            own.model.head.features = dict(num_classes=cfg.data_preprocessor.num_classes, dims=512)
        found.append(own)
    return found


def with_models(cfg: Config, **options) -> dict:
    """The model's config, without files that may be absent; CIFAR nets narrow and shallow."""
    model = cfg.model.to_dict()
    for source, own in zip(model['sources'], sources_of(cfg), strict=True):
        for key in ('config', 'options'):
            source.pop(key, None)
        net = source['model'] = own.model.to_dict()
        if 'width' in net['backbone']:
            net['head']['in_channels'] = net['head']['in_channels'] // net['backbone']['width'] * 4
            net['backbone'].update(width=4, depth={'CifarResNet': 8, 'CifarVGG': 11}[net['backbone']['type']])
    return {**model, 'data_preprocessor': cfg.data_preprocessor.to_dict(), **options}


@pytest.mark.parametrize('path', MERGES)
def test_merge_is_complete(path):
    cfg = load_config(path)
    assert cfg.train_cfg == dict(by_epoch=True, max_epochs=0) and 'optim_wrapper' not in cfg
    hooks = {name: HOOKS.build(cfg.default_hooks[name]) for name in ('merge', 'renormalize')}
    needs_moments(hooks['merge'].matcher)
    for source, own in zip(cfg.model.sources, sources_of(cfg), strict=True):
        own_preprocessor = {**own.data_preprocessor, 'num_classes': None}
        assert own_preprocessor == {**cfg.data_preprocessor, 'num_classes': None}, source.name
        assert 'checkpoint' not in source  # the result of the training that the source's config describes
    tasks = resolve_tasks(cfg.model.tasks)
    folders = [own.get('work_dir', source.config)
               for source, own in zip(cfg.model.sources, sources_of(cfg), strict=True)]
    assert len(set(folders)) == len(folders)
    assert resolve_tasks(cfg.val_evaluator.tasks) == tasks == resolve_tasks(cfg.test_evaluator.tasks)
    Evaluator(cfg.val_evaluator), Evaluator(cfg.test_evaluator)


#: All methods on one pair of nets, and every net's merge.
SMALL = [path for path in MERGES if 'resnet50' not in path and ('cifar10-jpeg' in path or 'zipit_' in path)
         and not re.search('(100|mnist).*stop', path)]


@pytest.mark.parametrize('path', SMALL)
def test_model_builds_and_merges(path):
    cfg = load_config(path)
    model = MODELS.build(with_models(cfg)).eval()
    size = model.input_size
    images = [torch.randn(16, *size)]
    merge_sources(model, lambda: collect_moments(model, images), cfg.default_hooks['merge']['matcher'])
    renormalizers = cfg.default_hooks['renormalize']['renormalizers']
    renormalize_merged(model, images, [{**renormalizer, 'samples': None} for renormalizer in renormalizers])
    with torch.no_grad():
        samples = model(images[0], mode='predict')
    outputs = 1 if model.stop is None else len(model.sources)
    assert samples[0].task_scores.shape == (outputs, model.num_classes)
    assert samples[0].task_scores.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in MERGES if 'resnet50' in path])
def test_large_model_builds(path):
    cfg = load_config(path)
    model = MODELS.build(with_models(cfg, input_size=(3, 64, 64))).eval()
    samples = model(torch.randn(1, 3, 64, 64), mode='predict')
    assert samples[0].task_scores.shape == (1 if model.stop is None else len(model.sources), model.num_classes)
