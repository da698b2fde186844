"""The stages of reassembly as a user runs them: from a config, on digits, with a zoo of three tiny nets."""
import json
import pickle
import shutil
import sys
import types
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmreuse.engine  # noqa: F401 (fills the registries)
from mmreuse.engine.runners import (
    DeRyRunner,
    FeatureExtractionRunner,
    NodeShapeRunner,
    PartitionRunner,
    ReassemblyRunner,
    SimilarityRunner,
)
from mmreuse.errors import ArtefactError, ConfigError, InfeasibleError
from mmreuse.models import CifarResNet
from mmreuse.reassembly.assembly.emit import load_candidates
from mmreuse.reassembly.partition.files import load_partition
from mmreuse.reassembly.similarity.similarity_matrix import load_similarity, save_similarity
from mmreuse.registry import MODELS
from mmreuse.utils.cost.complexity import count_params
from mmreuse.utils.files.io import read_json

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
    assert '>Assemblies</h2>' in (work / 'report.html').read_text()


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
    top = [Path(pipeline.work_dir) / name for name in ('metrics.json', 'report.html')]
    assert {path: time for path, time in after.items() if path not in top} == \
        {path: time for path, time in before.items() if path not in top}


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


def scores(folder: Path) -> list[tuple]:
    rows = read_json(folder / 'reassembly' / 'candidates.json')['candidates']
    return [(row['id'], row['scores'], row['flops']) for row in rows]


def test_candidates_are_ranked_at_the_size_they_will_run_at_in_any_order_of_the_zoo(pipeline, tmp_path, monkeypatch):
    """The members were trained at 8, 16 and 24 pixels, with other means; the assembly is for 12 x 10."""
    seen = []
    batches = ReassemblyRunner._batches

    def watched(runner):
        seen.extend(batches(runner))
        return seen[-2:]

    monkeypatch.setattr(ReassemblyRunner, '_batches', watched)
    work = Path(pipeline.work_dir)
    zoo = [{**entry, 'input_size': 8, 'preprocess': dict(resize=size, crop=size, mean=[size / 50] * 3)}
           for entry, size in zip(pipeline.zoo, (8, 16, 24), strict=True)]
    for number, order in enumerate(([0, 1, 2], [2, 0, 1], [1, 2, 0])):
        cfg = changed(pipeline, tmp_path / str(number), zoo=[zoo[index] for index in order],
                      partition_file=str(work / 'partition/partition.json'),
                      similarity_file=str(work / 'similarity/similarity.safetensors'))
        cfg.reassembly.input_size = (12, 10)
        cfg.reassembly.proxy = dict(type='naswot')
        ReassemblyRunner(cfg).run()
    assert {images.shape[2:] for images, _ in seen} == {(12, 10)}
    first, *others = (scores(tmp_path / str(number)) for number in range(3))
    assert len({score['naswot'] for _, score, _ in first}) > 1 and others == [first, first]


def test_candidates_may_be_ranked_without_labels_and_by_short_trainings(pipeline, tmp_path):
    work = Path(pipeline.work_dir)
    cfg = changed(pipeline, tmp_path, partition_file=str(work / 'partition/partition.json'),
                  similarity_file=str(work / 'similarity/similarity.safetensors'))
    cfg.reassembly.update(proxy=dict(type='agreement'), teacher='wide', joints='next_head', num_candidates=4,
                          finalists=2, budget=dict(iterations=16, samples=40, batch_size=8))
    metrics = ReassemblyRunner(cfg).run()
    found = [score for _, score, _ in scores(tmp_path)]
    assert all(set(score) == {'agreement', 'short_training'} for score in found) and len(found) == 4
    assert metrics['reassembly/best_short_training'] == found[0]['short_training']
    assert (tmp_path / 'reassembly' / 'rank1.py').read_text().startswith('# Rank 1 by short_training = ')
    assert all(list((tmp_path / 'reassembly').glob(f'{log}-*.jsonl')) for log in ('scores', 'trainings'))


@pytest.fixture
def own(pipeline, tmp_path) -> Config:
    """The finished pipeline with weights of its own, to be overwritten."""
    copied = shutil.copytree(Path(pipeline.work_dir).parent, tmp_path / 'own')
    cfg = changed(pipeline, copied / 'work', cache_dir=str(copied / 'cache'))
    for entry in cfg.zoo:
        entry.weights = str(copied / f'{entry.key}.pth')
    DeRyRunner.from_cfg(cfg).run()
    return cfg


def overwrite(cfg: Config, key: str) -> None:
    torch.manual_seed(99)
    torch.save(CifarResNet(14, WIDTHS[key]).state_dict(), Path(cfg.work_dir).parent / f'{key}.pth')


def test_overwritten_weights_run_every_stage_again(own):
    work = Path(own.work_dir)
    before = {path: path.read_bytes() for path in work.rglob('*.safetensors')}
    best = load_candidates(work / 'reassembly' / 'candidates.json')
    overwrite(own, 'middle')
    DeRyRunner.from_cfg(own).run()
    changes = {str(path.relative_to(work)) for path, content in before.items() if path.read_bytes() != content}
    assert changes == {'features/middle.safetensors', 'similarity/similarity.safetensors'}
    assert load_candidates(work / 'reassembly' / 'candidates.json') != best


def test_artefacts_of_other_weights_are_refused(own):
    overwrite(own, 'middle')
    for stage, file in ((SimilarityRunner, 'middle.safetensors'), (PartitionRunner, 'similarity.safetensors'),
                        (ReassemblyRunner, 'partition.json')):
        with pytest.raises(ArtefactError, match=f"{file}: was made from other weights of 'middle'"):
            stage(own).run()


def test_a_partition_of_another_similarity_is_refused(pipeline, tmp_path):
    work = Path(pipeline.work_dir)
    similarity = load_similarity(work / 'similarity' / 'similarity.safetensors')
    save_similarity(tmp_path / 'other.safetensors', replace(similarity, values=similarity.values / 2))
    cfg = changed(pipeline, tmp_path / 'work', partition_file=str(work / 'partition/partition.json'),
                  similarity_file=str(tmp_path / 'other.safetensors'))
    with pytest.raises(ArtefactError, match='partition.json: was made from another similarity'):
        ReassemblyRunner(cfg).run()


def test_a_bound_on_the_latency_of_assemblies_is_measured(pipeline, tmp_path):
    work = Path(pipeline.work_dir)
    cfg = changed(pipeline, tmp_path, partition_file=str(work / 'partition/partition.json'),
                  similarity_file=str(work / 'similarity/similarity.safetensors'))
    cfg.reassembly.bounds = dict(max_latency=1e-9)
    with pytest.raises(InfeasibleError, match=r'max_latency = 1e-09 binds: .* nearest feasible value is (?!0\.$)0\.'):
        ReassemblyRunner(cfg).run()


def test_published_similarities_serve_a_config(pipeline, tmp_path):
    """A folder of the published pickles instead of the stage's own file."""
    similarity = load_similarity(Path(pipeline.work_dir) / 'similarity' / 'similarity.safetensors')
    folder = tmp_path / 'pickles'
    folder.mkdir()
    for left, right in combinations_with_replacement(similarity.keys, 2):
        values = similarity.values[similarity.rows(left), similarity.rows(right)][1:, 1:].numpy().copy()
        content = dict(sim=values, model1=dict(model_name=left), model2=dict(model_name=right))
        (folder / f'{left}.{right}.pkl').write_bytes(pickle.dumps(content))
    cfg = changed(pipeline, tmp_path / 'work', similarity_file=str(folder))
    PartitionRunner(cfg).run()
    assert load_partition(tmp_path / 'work' / 'partition' / 'partition.json').block_input == 'first_node'
    manifest = (tmp_path / 'work' / 'partition' / 'manifest.json').read_text()
    (folder / 'wide.wide.pkl').write_bytes((folder / 'narrow.narrow.pkl').read_bytes())
    with pytest.raises(ArtefactError, match='wide - wide'):
        PartitionRunner(cfg).run()
    assert (tmp_path / 'work' / 'partition' / 'manifest.json').read_text() == manifest


def test_a_published_partition_serves_a_config(pipeline, tmp_path, monkeypatch):
    own = load_partition(Path(pipeline.work_dir) / 'partition' / 'partition.json')
    module = types.ModuleType('utils')
    for name in ('Block', 'Block_Assign'):
        setattr(module, name, type(name, (), {'__module__': 'utils'}))

    def published(block):
        record = module.Block()
        record.model_name, record.block_index = block.model, block.stage
        record.node_list = list(range(block.first, block.last + 1))
        return record

    groups = [[block for blocks in own.blocks.values() for block in blocks if block.set == label] for label in range(3)]
    assignment = module.Block_Assign()
    assignment.centers = list(map(published, own.anchors))
    assignment.center2block = [[center, *map(published, group)]
                               for center, group in zip(assignment.centers, groups, strict=True)]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'utils', module)
        (tmp_path / 'assignment_hybrid_3.pkl').write_bytes(pickle.dumps(assignment))
    cfg = changed(pipeline, tmp_path / 'work', partition_file=str(tmp_path / 'assignment_hybrid_3.pkl'),
                  similarity_file=str(Path(pipeline.work_dir) / 'similarity' / 'similarity.safetensors'))
    ReassemblyRunner(cfg).run()
    assert scores(tmp_path / 'work') == scores(Path(pipeline.work_dir))


@pytest.mark.parametrize('stage', [FeatureExtractionRunner, SimilarityRunner, PartitionRunner, ReassemblyRunner])
def test_every_stage_says_what_it_needs_and_refuses_where_there_is_less(pipeline, tmp_path, monkeypatch, stage):
    shutil.copytree(pipeline.work_dir, tmp_path / 'work')
    monkeypatch.setattr('mmreuse.utils.cost.memory.available_memory', lambda: 1000)
    with pytest.raises(ConfigError, match=f'{stage.stage} of 3 nets: needs about .* Take .* MMREUSE_IGNORE_MEMORY'):
        stage(changed(pipeline, tmp_path / 'work', overwrite=True)).run()


def test_more_samples_than_there_are_cost_no_memory(pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr('mmreuse.utils.cost.memory.available_memory', lambda: 2**30)
    cfg = changed(pipeline, tmp_path, **{'features.num_samples': 10**12})
    cfg.zoo = cfg.zoo[:1]
    assert FeatureExtractionRunner(cfg).run()['features/samples'] == 1197


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
    *(({key: value}, key.rpartition('.')[2]) for key, value in (
        ('features.num_samples', 0), ('features.num_samples', float('nan')), ('features.minibatch', 2),
        ('features.batch_size', 0), ('features.num_workers', -1), ('data.dataset', None), ('data', 3),
        ('partition.num_blocks', 2.5), ('partition.num_blocks', True), ('partition.restarts', 0),
        ('partition.epsilon', float('nan')), ('partition.epsilon', 'x'), ('partition.seed', 0.5),
        ('reassembly.bounds', dict(max_params='x')), ('reassembly.bounds', dict(max_params=float('nan'))),
        ('reassembly.rules', dict(stem='cifar', base_channels=1.5)), ('reassembly.rules', dict(cnn_first='no')),
        ('reassembly.rules', dict(strides=2)), ('reassembly.input_size', (8, 8, 3)), ('reassembly.input_size', 0),
        ('reassembly.input_size', 'x'), ('reassembly.num_batches', 0), ('reassembly.batch_size', 0),
        ('reassembly.num_candidates', 0), ('reassembly.finalists', 0), ('reassembly.top', 0),
        ('reassembly.num_classes', 0), ('reassembly.joints', 'heads'), ('reassembly.teacher', 'widest'),
        ('reassembly.budget', dict(epochs=0)), ('reassembly.budget', dict(iteration=3)))),
    ({'reassembly.proxy': dict(type='naswot', unit='relu')}, "no option 'unit'"),
    ({'similarity': dict(type='rbf_cka', sigma=0)}, 'sigma'),
    ({'similarity': dict(type='rbf_cka', sigma=float('nan'))}, 'sigma'),
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


def test_a_search_of_the_nearest_blocks_of_sketches(pipeline, tmp_path, monkeypatch):
    """The stages of a zoo that is too large for all pairs, on one that is not."""
    monkeypatch.setattr('mmreuse.engine.reports.reassembly._DRAWN', 2)
    cfg = changed(pipeline, tmp_path, **{'similarity.sketch': 64, 'reassembly.nearest': 1})
    metrics = DeRyRunner.from_cfg(cfg).run()
    assert load_similarity(tmp_path / 'similarity/similarity.safetensors').values.shape[1] == 64
    whole = read_json(Path(pipeline.work_dir) / 'metrics.json')
    assert metrics['partition/objective'] == pytest.approx(whole['partition/objective'], rel=0.05)
    assert 0 < metrics['reassembly/feasible'] <= whole['reassembly/feasible']
    assert 'Of 3 networks those of the best assembly and of the anchors' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('change, message', [
    ({'similarity.sketch': 1}, 'sketch = 1 must be a whole number of at least 2'),
    ({'reassembly.nearest': 0}, 'reassembly.nearest = 0 must be a whole number of at least 1')])
def test_cuts_that_leave_nothing_are_refused(pipeline, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        DeRyRunner.from_cfg(changed(pipeline, tmp_path, **change))
