"""Every config under ``configs/``: it says the same after a dump, and what it names exists and fits together."""
import ast
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.evaluator import Evaluator
from mmengine.optim import CosineAnnealingLR, LinearLR, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn
from yapf.yapflib import yapf_api

from mmreuse.engine.configs.config_check import check_config
from mmreuse.engine.launch import load_config
from mmreuse.registry import HOOKS, MODELS, RUNNERS
from mmreuse.utils.configs.keys import drop_helpers
from mmreuse.utils.cost.complexity import count_params

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py'))
#: Those that train a classifier as they are; others run a stage, merge, or are a part of something.
TRAININGS = [path for path in CONFIGS
             if '/_base_' not in path and {'type', 'head'} <= set(Config.fromfile(ROOT / path).get('model', {}))]
DATA = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs/_base_/datasets').glob('*.py'))


@pytest.fixture(autouse=True)
def _scope(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    init_default_scope('mmreuse')


@pytest.mark.parametrize('path', CONFIGS)
def test_dump_parses_to_the_same(path, tmp_path, monkeypatch):
    # Laying out the dump takes seconds and changes nothing but blanks.
    monkeypatch.setattr(yapf_api, 'FormatCode', lambda text, **options: (text, True))
    cfg = load_config(path)
    cfg.dump(tmp_path / 'again.py')
    assert Config.fromfile(tmp_path / 'again.py').to_dict() == cfg.to_dict()


def chains(path: Path) -> list[list[Path]]:
    """A config and those above it, one list for each way up."""
    bases = Config._get_base_files(str(path))
    return [[path, *chain] for base in (bases if isinstance(bases, list) else [bases])
            for chain in chains((path.parent / base).resolve())] or [[path]]


@pytest.mark.parametrize('path', CONFIGS)
def test_says_all_by_itself(path):
    """Three levels of bases at most; no branches, no environment but where data lie, no file of another run."""
    text = (ROOT / path).read_text()
    assert max(map(len, chains(ROOT / path))) <= 4
    assert not any(isinstance(node, ast.If) for node in ast.walk(ast.parse(text)))
    assert set(re.findall(r'\{\{\s*\'?\$(\w+)', text)) <= {'MMREUSE_DATA_ROOT'} and 'environ' not in text
    code = re.sub('#.*', '', text)
    own = code.replace('work_dirs/{{ fileBasenameNoExtension }}/', '')
    assert not re.findall(r'work_dirs/[^\'"]*\.pth', own)


@pytest.mark.parametrize('path', CONFIGS)
def test_results_that_are_named_are_those_of_configs(path):
    cfg = load_config(path)
    addresses = [text for text in strings(cfg.to_dict()) if text.startswith('result://')]
    assert {re.split('[?#]', address.removeprefix('result://'))[0] for address in addresses} <= set(CONFIGS)
    assert all(('_pair_' in address or '/pair_' in address) == ('#net' in address) for address in addresses)


def strings(value) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize('path', CONFIGS)
def test_check_finds_nothing_wrong(path):
    """What others build on may leave something open."""
    partial = any(part.startswith(('_base_', 'finetune_')) for part in Path(path).parts)
    cfg = load_config(path)
    if not partial:
        drop_helpers(cfg)
    if 'preserve_first' in cfg:
        cfg.runner_type = 'PreserveFirstRunner'  # as the tool of these sets it
    check_config(cfg, partial)


@pytest.mark.parametrize('path', TRAININGS)
def test_training_is_complete(path):
    cfg = load_config(path)
    assert cfg.default_scope == 'mmreuse'
    if 'features' not in cfg.model.head:  # with text embeddings, class vectors stand for the classes
        assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes
    for split in ('train', 'val', 'test'):
        assert cfg[f'{split}_dataloader'].dataset.type and cfg[f'{split}_cfg'] is not None
    Evaluator(cfg.val_evaluator)
    for hook in cfg.get('custom_hooks', []):
        HOOKS.build(hook)
    schedulers = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler or {}]
    steps = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
    by_epoch = cfg.train_cfg.get('by_epoch', True)
    # A warm-up may count iterations where the training counts epochs.
    alike = [scheduler for scheduler in schedulers if scheduler.get('by_epoch', True) == by_epoch]
    assert max(scheduler.get('end') or scheduler.get('T_max') or steps for scheduler in alike) == steps


@pytest.mark.parametrize('path', [path for path in TRAININGS if path.startswith('configs/dery/dery-')])
def test_optimizer_leaves_norms_without_decay(path):
    cfg = load_config(path).optim_wrapper
    # Mixed precision needs a GPU to be built.
    options = {key: value for key, value in cfg.items() if key not in ('type', 'loss_scale')}
    groups = build_optim_wrapper(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), options).optimizer.param_groups
    assert groups[0]['weight_decay'] == cfg.optimizer.weight_decay > 0
    assert groups[-1]['weight_decay'] == 0


@pytest.mark.parametrize('path', DATA)
@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_pipelines_make_images_of_one_size(path, split, tmp_path):
    cfg = load_config(path)
    loader = cfg[f'{split}_dataloader']
    if 'dataset' not in loader:
        # A base without a data set of its own.
        pipeline = cfg.get(f'{split}_pipeline', cfg.test_pipeline)
    else:
        pipeline = loader.dataset.get('dataset', loader.dataset).pipeline
    side = 224 if path.endswith('_224.py') else 32
    image = np.random.default_rng(0).integers(0, 256, (side, side + 40 if side == 224 else side, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    np.random.seed(0)
    steps = Compose([dict(step) for step in pipeline])
    for _ in range(8):
        packed = steps(dict(img=image.copy(), img_path=str(tmp_path / 'image.png'), gt_label=3))
        assert packed['inputs'].shape == (3, side, side) and packed['inputs'].dtype == torch.uint8
        assert packed['data_samples'].gt_label.item() == 3


@pytest.mark.parametrize('size, params, trainable, width', [
    ('10m', 7_834_434, 1_024_216, 888),
    ('20m', 14_185_960, 733_352, 384),
    ('30m', 24_893_616, 1_568_552, 768),
    ('50m', 40_414_054, 3_921_832, 2048),
    ('90m', 80_661_279, 1_266_408, 1024),
])
def test_published_models(size, params, trainable, width):
    cfg = load_config(f'configs/_base_/models/dery_{size}.py').model
    cfg.backbone.pretrained = False
    cfg.data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=1000)
    with torch.device('meta'):
        model = MODELS.build(cfg)
        scores = model(torch.zeros(2, 3, 224, 224))
    assert scores.shape == (2, 1000) and cfg.head.in_channels == width
    assert (count_params(model), count_params(model, trainable=True)) == (params, trainable)


def test_learning_rate_follows_the_published_curve():
    """Warm-up times a cosine that begins at the first iteration, as mmcv 1.x computed it."""
    cfg = load_config('configs/_base_/schedules/imagenet_bs1024_adamw_100e.py')
    steps = 20  # in an epoch
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = build_schedulers(cfg.param_scheduler, optimizer, steps)
    for step in range(100 * steps):
        share = step / (100 * steps)
        cosine = 1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi * share)) / 2
        warmup = min(1, 1e-3 + (1 - 1e-3) * step / (5 * steps - 1))
        assert optimizer.param_groups[0]['lr'] == pytest.approx(cosine * warmup, rel=1e-2)
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(1e-5, rel=1e-3)


def build_schedulers(configs: list, optimizer: torch.optim.Optimizer, epoch_length: int) -> list:
    """As the Runner builds them."""
    kinds = dict(LinearLR=LinearLR, CosineAnnealingLR=CosineAnnealingLR)
    schedulers = []
    for config in configs:
        options = {key: value for key, value in config.items() if key not in ('type', 'convert_to_iter_based')}
        schedulers.append(kinds[config.type].build_iter_from_epoch(
            optimizer=optimizer, epoch_length=epoch_length, **options))
    return schedulers


def test_stages_name_runners_that_exist():
    stages = [cfg for cfg in map(load_config, set(CONFIGS) - set(TRAININGS)) if 'runner_type' in cfg]
    assert all(RUNNERS.get(cfg.runner_type) is not None for cfg in stages)
