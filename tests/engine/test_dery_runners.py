"""The stages of reassembly as a user runs them: from a config, on digits, with a zoo of three tiny nets."""
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmreuse.engine  # noqa: F401 (fills the registries)
from mmreuse.engine.runners import DeRyRunner, FeatureExtractionRunner, NodeShapeRunner, PartitionRunner
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models import CifarResNet
from mmreuse.reassembly.emit import load_candidates
from mmreuse.registry import MODELS
from mmreuse.utils.complexity import count_params
from mmreuse.utils.io import read_json

WIDTHS = {'narrow': 4, 'middle': 6, 'wide': 8}


@pytest.fixture(scope='module')
def pipeline(tmp_path_factory) -> Config:
    """A pipeline config whose zoo lies on disk; with all stages run once."""
    folder = tmp_path_factory.mktemp('pipeline')
    zoo = []
    for seed, (key, width) in enumerate(WIDTHS.items()):
        torch.manual_seed(seed)
        torch.save(CifarResNet(14, width).state_dict(), folder / f'{key}.pth')
        zoo.append(dict(key=key, library='local', model='CifarResNet', args=dict(depth=14, width=width),
                        weights=str(folder / f'{key}.pth'), preprocess=dict(resize=8, crop=8)))
    loader = dict(batch_size=16, dataset=dict(type='Digits'), sampler=dict(type='DefaultSampler', shuffle=True))
    finetune = dict(train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=1),
                    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)))
    (folder / 'finetune.py').write_text('\n'.join(f'{key} = {value!r}' for key, value in finetune.items()))
    cfg = Config(dict(
        work_dir=str(folder / 'work'), cache_dir=str(folder / 'cache'), device='cpu', zoo=zoo,
        data=dict(dataset=dict(type='Digits'), load=[], color_order='rgb'),
        features=dict(num_samples=48, minibatch=16, batch_size=20), similarity=dict(type='cka'),
        partition=dict(num_blocks=3, epsilon=0.3, restarts=3, bijective=True),
        reassembly=dict(rules=dict(stem='cifar'), num_batches=2, batch_size=8, num_candidates=12, finalists=3, top=2,
                        num_classes=10, input_size=(8, 8), finetune=str(folder / 'finetune.py'))))
    DeRyRunner.from_cfg(cfg).run()
    return cfg


def changed(cfg: Config, work_dir: Path, **changes) -> Config:
    cfg = Config({**cfg.to_dict(), 'work_dir': str(work_dir)})
    cfg.merge_from_dict(changes)
    return cfg


def test_every_stage_leaves_its_artefacts_metrics_and_manifest(pipeline):
    work = Path(pipeline.work_dir)
    expected = {
        'features': [f'{key}.safetensors' for key in WIDTHS], 'similarity': ['similarity.safetensors'],
        'partition': ['partition.json'], 'reassembly': ['rank1.py', 'rank2.py', 'candidates.json', 'pareto.json']}
    for stage, files in expected.items():
        for name in [*files, 'metrics.json', 'manifest.json']:
            assert (work / stage / name).is_file(), f'{stage}/{name}'
        assert all('/' in key for key in read_json(work / stage / 'metrics.json'))
    assert read_json(work / 'metrics.json')['features/samples'] == 48


def test_emitted_config_builds_the_scored_net(pipeline):
    folder = Path(pipeline.work_dir) / 'reassembly'
    best = load_candidates(folder / 'candidates.json')[0]
    cfg = Config.fromfile(folder / 'rank1.py')
    model = MODELS.build(cfg.model)
    assert count_params(model) == best.params
    # Every block carries the weights of the net it is named after.
    for index, block in enumerate(best.genotype.blocks):
        stored = torch.load(cfg.model.backbone.block_list[index].model.weights, weights_only=True)
        own = model.backbone.blocks[index].state_dict()
        assert any(name.endswith('weight') for name in own), block
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, stored[name.removeprefix('body.')], rtol=0, atol=0)


def test_second_run_computes_nothing(pipeline, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in Path(pipeline.work_dir).rglob('*') if path.suffix != '.log'}
    monkeypatch.setattr(FeatureExtractionRunner, 'execute', lambda self: pytest.fail('features were computed again'))
    DeRyRunner.from_cfg(pipeline).run()
    after = {path: path.stat().st_mtime_ns for path in Path(pipeline.work_dir).rglob('*') if path.suffix != '.log'}
    top = Path(pipeline.work_dir) / 'metrics.json'
    assert {path: time for path, time in after.items() if path != top} == \
        {path: time for path, time in before.items() if path != top}


def test_another_work_dir_finds_the_grams_in_the_cache(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr('mmreuse.engine.runners.dery.collect_grams', lambda *a, **k: pytest.fail('not from the cache'))
    FeatureExtractionRunner(changed(pipeline, tmp_path)).run()
    for key in WIDTHS:
        name = f'features/{key}.safetensors'
        assert (tmp_path / name).read_bytes() == (Path(pipeline.work_dir) / name).read_bytes()


def test_changed_settings_run_the_stage_again_and_equal_seeds_give_equal_results(pipeline, tmp_path):
    similarity = str(Path(pipeline.work_dir) / 'similarity' / 'similarity.safetensors')
    first = PartitionRunner(changed(pipeline, tmp_path, similarity_file=similarity)).run()
    assert first == read_json(Path(pipeline.work_dir) / 'partition' / 'metrics.json')
    PartitionRunner(changed(pipeline, tmp_path, similarity_file=similarity, **{'partition.num_blocks': 2})).run()
    assert read_json(tmp_path / 'partition' / 'partition.json')['num_blocks'] == 2


def test_node_shapes_need_no_weights(pipeline, tmp_path):
    cfg = changed(pipeline, tmp_path)
    for entry in cfg.zoo:
        entry.weights = 'nowhere.pth'
    NodeShapeRunner(cfg).run()
    shapes = json.loads((tmp_path / 'shapes' / 'MODEL_INOUT_SHAPE.json').read_text())
    assert shapes['wide']['in_size']['layer1.0'] == [8, 8, 8]
    assert shapes['wide']['out_size']['layer3.1'] == [32, 2, 2]


@pytest.mark.parametrize(('changes', 'message'), [
    ({'features.num_sample': 3}, 'num_sample'),
    ({'reassembly.finetune': 'nowhere.py'}, 'nowhere.py'),
    ({'reassembly.bounds': dict(max_parms=3)}, 'max_parms'),
    ({'reassembly.rules': dict(stem='vgg')}, 'vgg'),
    ({'reassembly.proxy': dict(type='naswott')}, 'naswot'),
    ({'partition.num_blocks': 7}, '7'),
    ({'partition.blocks': 7}, 'blocks'),
    ({'similarity.type': 'cca'}, 'cca'),
    ({'data.color_order': 'rgba'}, 'rgba'),
    ({'partition': None}, 'partition'),
])
def test_what_is_wrong_in_a_late_section_shows_before_time_is_spent(pipeline, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        DeRyRunner.from_cfg(changed(pipeline, tmp_path, **changes)).run()
    assert not list(tmp_path.rglob('*.safetensors'))


def test_a_missing_or_damaged_artefact_names_the_file(pipeline, tmp_path):
    cfg = changed(pipeline, tmp_path)
    with pytest.raises(ArtefactError, match='similarity.safetensors'):
        PartitionRunner(cfg).run()
    broken = tmp_path / 'broken.safetensors'
    whole = (Path(pipeline.work_dir) / 'similarity' / 'similarity.safetensors').read_bytes()
    broken.write_bytes(whole[:len(whole) // 2])
    cfg.similarity_file = str(broken)
    with pytest.raises(ArtefactError, match='broken.safetensors'):
        PartitionRunner(cfg).run()
    assert not (tmp_path / 'partition' / 'partition.json').exists()
