"""The configs of deep model reassembly say what was published, and fit together."""
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

import mmreuse.engine  # noqa: F401 (fills the registries)
from mmreuse.engine.launch import load_config
from mmreuse.engine.runners import DeRyRunner, zoo_stage
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.structures import Node
from mmreuse.reassembly.zoo.zoo import parse_zoo
from mmreuse.registry import MODELS, TRANSFORMS

ROOT = Path(__file__).resolve().parents[1]
NODES = {
    'resnet18': 8, 'resnet101': 33, 'regnet_y_800mf': 14, 'regnet_y_1_6gf': 27, 'regnet_y_3_2gf': 21,
    'regnet_y_8gf': 17, 'regnet_y_16gf': 18, 'regnet_y_32gf': 20, 'vit_large': 24, 'vit': 12, 'swin_tiny': 15,
    'swin': 27, 'mobilenetv3_small': 12}


@pytest.fixture(autouse=True)
def _scope(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    init_default_scope('mmreuse')


def nodes_of(entry) -> tuple[Node, ...]:
    """As many as the entry has; their shapes are not looked at before features are made."""
    count = next((number for prefix, number in NODES.items() if entry.key.startswith(prefix)), 16)
    return tuple(Node(f'n{i}', (8, 7, 7), (8, 7, 7), 'nchw', 'nchw', 10) for i in range(count))


@pytest.mark.parametrize('config, count', [('dery_paper-zoo_in1k', 24), ('dery_paper-zoo-28_in1k', 28)])
def test_the_papers_pipeline_is_complete(config, count, monkeypatch):
    monkeypatch.setattr(zoo_stage, 'member_nodes', nodes_of)
    cfg = load_config(f'configs/dery/{config}.py')
    cfg.work_dir = 'nowhere'
    stages = DeRyRunner.from_cfg(cfg).runners
    assert len(stages[0].zoo) == count and all(entry.weights for entry in stages[0].zoo.values())
    assert sum(map(len, stages[2].nodes.values())) == (434 if count == 24 else 434 + 16 + 12 + 12 + 16)


@pytest.mark.parametrize('key', ['mobilenetv3_small_100', 'tf_mobilenetv3_large_075'])
def test_further_networks_have_their_nodes(key):
    zoo = parse_zoo(load_config('configs/dery/dery_paper-zoo-28_in1k.py').zoo)
    assert len(member_nodes(zoo[key])) == len(nodes_of(zoo[key]))


def test_downstream_augmentation_has_the_published_strength():
    augment = load_config('configs/_base_/datasets/caltech101_224.py').augment
    step = next(step for step in augment if step['type'] == 'mmpretrain.RandAugment')
    chosen = TRANSFORMS.build({**step, 'magnitude_std': 0})
    reached = [(type(each).__name__, each.magnitude_level / each.total_level * (
        each.magnitude_range[1] - each.magnitude_range[0]) + each.magnitude_range[0])
        for each in chosen if each.magnitude_range is not None]
    expected = dict(Brightness=0.86, ColorTransform=0.86, Contrast=0.86, Sharpness=0.86, Posterize=7.6, Solarize=230.4,
                    Rotate=24, Shear=0.24, Translate=0.24)
    assert len(list(chosen)) == 14 and {name for name, _ in reached} == set(expected)
    assert all(value == pytest.approx(expected[name]) for name, value in reached)


@pytest.mark.parametrize('data, batch, iterations, rate', [
    ('caltech101', 64, 20000, 6.25e-5), ('flowers', 64, 20000, 6.25e-5), ('pets', 64, 20000, 6.25e-5),
    ('cub', 256, 20000, 2.5e-4), ('aircraft', 256, 40000, 2.5e-4), ('cars', 256, 40000, 2.5e-4)])
def test_fifty_million_parameters_are_trained_as_published(data, batch, iterations, rate):
    path, = (ROOT / 'configs/dery').glob(f'dery-50m_*_{data}.py')
    cfg = load_config(str(path))
    processes = int(path.stem.split('_')[2].split('xb')[0])
    assert processes * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.train_cfg.max_iters == iterations and cfg.optim_wrapper.optimizer.lr == rate


@pytest.mark.parametrize('name, layers, std', [
    ('linear-mlp8', 8, 0.002), ('linear-mlp5', 5, 0.005), ('residual-mlp5', 5, 0.005)])
def test_linear_networks_on_mnist(name, layers, std):
    cfg = load_config(f'configs/vanishing_feature/{name}_pair_mnist.py')
    pair = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    pair.init_weights()
    for net in pair.nets:
        weights = [layer.weight for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
        assert len(weights) == layers
        assert all(weight.std().item() == pytest.approx(std, rel=0.2) for weight in weights)
        assert bool(net.backbone._buffers) == name.startswith('residual')
        assert net.head(net.extract_feat(torch.zeros(2, 1, 28, 28))).shape == (2, 10)
    assert cfg.param_scheduler is None and cfg.optim_wrapper.optimizer.type == 'Adam'
