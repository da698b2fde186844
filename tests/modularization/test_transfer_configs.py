"""Published recipes of indirect reuse as configs."""
import pytest
from mmengine.registry import init_default_scope

from mmreuse.engine.launch import load_config
from mmreuse.modularization import mask_parameters
from mmreuse.registry import MODELS


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmreuse')


def test_published_number_of_weights(repository):
    cfg = load_config(str(repository / 'configs/seam/resnet18_mit67_transfer.py'))
    model = MODELS.build({**cfg.model, 'type': 'FrozenClassifier', 'masked': True})
    assert sum(mask.numel() for mask in mask_parameters(model.backbone).values()) == 11_166_912


@pytest.mark.parametrize('stage, lr, head, optimizer', [
    ('standard', 0.005, 10, 'SGD'), ('head', 0.1, 1, 'SGD'), ('masks', 0.05, 0.02, 'Adam'),
    ('modular', 0.005, 10, 'SGD'), ('scratch', 0.1, 1, 'SGD')])
def test_published_settings(stage, lr, head, optimizer, repository, monkeypatch):
    monkeypatch.setenv('SEAM_STAGE', stage)
    cfg = load_config(str(repository / 'configs/seam/resnet50_cub_transfer.py'))
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == (optimizer, lr)
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult == head
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (300, 64)
    assert [hook.type for hook in cfg.custom_hooks[:1]] == ([] if stage == 'scratch' else ['TransferInitHook'])
    assert cfg.model.head == {**cfg.model.head, 'num_classes': 200, 'in_channels': 2048}
