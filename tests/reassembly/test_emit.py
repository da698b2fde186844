"""Emitted configs: complete, and exactly what was counted and scored, with every block's own weights."""
import math

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from safetensors.torch import load_file
from tiny_zoo import make_partition, make_zoo, resnet, vit

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.emit import candidate_config, emit_candidates, load_finetune
from mmreuse.reassembly.assembly.genotype import Rules, genotype_from_dict
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.search.search import search
from mmreuse.reassembly.search.trellis import build_assemblies
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.registry import MODELS
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.io import read_json

SIZE = (16, 24)

FINETUNE = dict(
    train_dataloader=dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(
        type='mmpretrain.CustomDataset', data_root='', lazy_init=True)),
    train_cfg=dict(by_epoch=True, max_epochs=2),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    model=dict(
        backbone=dict(block_fixed=False, frozen_bn='eval'), head=dict(loss=dict(type='mmpretrain.CrossEntropyLoss')),
        train_cfg=dict(augments=dict(type='mmpretrain.Mixup', alpha=0.1))))


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """A search over a zoo in which two nets differ in nothing but their weights."""
    zoo = make_zoo(tmp_path_factory.mktemp('zoo'), resnet('supervised', 4), resnet('contrastive', 4), vit('tokens', 12))
    partition, nodes = make_partition(zoo, num_blocks=2)
    assemblies = build_assemblies(partition, CostTable(zoo, nodes, 5, SIZE), Rules(stem='cifar', strides=(1, 2)))
    generator = torch.Generator().manual_seed(0)
    scorer = Scorer(ComponentCache(zoo, nodes, 5), [(torch.randn(4, 3, *SIZE, generator=generator), None)], 'naswot')
    return zoo, nodes, search(assemblies, scorer, num_candidates=100)


@pytest.fixture(scope='module')
def written(found, tmp_path_factory):
    zoo, nodes, result = found
    folder = tmp_path_factory.mktemp('out')
    return folder, emit_candidates(
        folder, result, zoo, nodes, num_classes=5, input_size=SIZE, finetune=FINETUNE, top=len(result.candidates))


def test_every_file_builds_to_what_was_counted(found, written):
    _, _, result = found
    assert len(written[1]) == len(result.candidates) == result.feasible
    for path, candidate in zip(written[1], result.candidates, strict=True):
        model = MODELS.build(Config.fromfile(path).model)
        assert count_params(model) == candidate.params
        assert count_macs(model.to('meta'), (3, *SIZE)) == candidate.flops


def test_every_block_has_the_weights_of_its_own_net(found, written):
    zoo, nodes, result = found
    models = set()
    for path, candidate in zip(written[1], result.candidates, strict=True):
        backbone = MODELS.build(Config.fromfile(path).model).backbone
        for block, module in zip(candidate.genotype.blocks, backbone.blocks, strict=True):
            own = load_file(zoo[block.model].weights)
            state = module.state_dict()
            assert state and all(torch.equal(tensor, own[name.removeprefix('body.')]) for name, tensor in state.items())
            models.add(block.model)
    assert models == set(zoo)


def test_the_built_net_computes_what_was_scored(found, written):
    zoo, nodes, result = found
    images = torch.randn(2, 3, *SIZE)
    for path, candidate in list(zip(written[1], result.candidates, strict=True))[:4]:
        scored = ComponentCache(zoo, nodes, 5).build(candidate.genotype).eval()
        built = MODELS.build(Config.fromfile(path).model).eval()
        parts = [built.backbone.stem, *built.backbone.adapters, built.head.fc]
        fresh = [step.module for step in scored.steps if step.key[0] in ('stem', 'adapter', 'head')]
        for part, piece in zip(parts, fresh, strict=True):  # stem, adapters and head are drawn anew when built
            part.load_state_dict(piece.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(built(images), scored(images))


def test_a_file_holds_the_whole_job_in_plain_values(written):
    text = written[1][0].read_text()
    config = Config.fromfile(written[1][0])
    assert text.startswith('# Rank 1 by naswot = ') and 'np.' not in text and 'torch' not in text
    assert config.default_scope == 'mmreuse' and config.train_cfg.max_epochs == 2
    assert 'mmreuse.models' in config.custom_imports.imports
    assert config.model.type == 'mmpretrain.ImageClassifier' and config.model.backbone.type == 'mmreuse.DeRy'
    assert config.model.backbone.block_fixed is False and config.model.backbone.frozen_bn == 'eval'
    assert config.model.head.loss.type == 'mmpretrain.CrossEntropyLoss' and config.model.train_cfg.augments.alpha == 0.1
    assert all(item.model.weights_hash.startswith('sha256:') for item in config.model.backbone.block_list)
    assert all(type(item.stride) is int for item in config.model.backbone.adapter_list)
    assert Config.fromstring(config.pretty_text, '.py').to_dict() == config.to_dict()


def test_the_optimizer_builds_from_an_emitted_file(written):
    config = Config.fromfile(written[1][0])
    model = MODELS.build(config.model)
    wrapper = Runner.build_optim_wrapper(type('R', (), dict(model=model))(), config.optim_wrapper)
    assert len(wrapper.optimizer.param_groups[0]['params']) == len(list(model.parameters()))


def test_the_tables_hold_all_candidates_and_the_front(found, written):
    _, _, result = found
    table, front = (read_json(written[0] / name) for name in ('candidates.json', 'pareto.json'))
    assert [genotype_from_dict(row['genotype']) for row in table['candidates']] == [
        c.genotype for c in result.candidates]
    assert [row['config'] for row in table['candidates']] == [path.name for path in written[1]]
    assert [genotype_from_dict(row['genotype']) for row in front['candidates']] == [c.genotype for c in result.pareto]
    assert table['exhaustive'] and table['feasible'] == len(table['candidates']) and table['input_size'] == [16, 24]
    assert all(math.isfinite(row['scores']['naswot']) and row['params'] > 0 for row in front['candidates'])


def test_without_a_base_the_model_alone_is_written(found):
    zoo, nodes, result = found
    config = candidate_config(result.candidates[0], zoo, nodes, 5)
    assert set(config.to_dict()) == {'model', 'default_scope', 'custom_imports'}
    assert config.model.head.loss == dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1)


def test_what_cannot_be_emitted_is_said_and_nothing_is_written(found, tmp_path):
    zoo, nodes, result = found
    with pytest.raises(ConfigError, match='finetune: lacks train_cfg'):
        load_finetune({key: FINETUNE[key] for key in ('train_dataloader', 'optim_wrapper')}, 5)
    with pytest.raises(ConfigError, match="'nowhere.py' is not a file"):
        load_finetune('nowhere.py', 5)
    with pytest.raises(ConfigError, match='num_classes = 9, but networks of 5'):
        load_finetune({**FINETUNE, 'model': dict(head=dict(num_classes=9))}, 5)
    with pytest.raises(ConfigError, match='top = 0'):
        emit_candidates(tmp_path / 'out', result, zoo, nodes, num_classes=5, input_size=SIZE, top=0)
    gone = {key: type(entry)(**{**vars(entry), 'weights': str(tmp_path / 'gone.safetensors')})
            for key, entry in zoo.items()}
    with pytest.raises(ArtefactError, match='would not build.*gone.safetensors'):
        emit_candidates(tmp_path / 'out', result, gone, nodes, num_classes=5, input_size=SIZE)
    assert not (tmp_path / 'out').exists()
