"""A network that is shared out among processes trains as a whole one does, and what cannot be shared out is refused."""
import multiprocessing
import os
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from mmengine._strategy import FSDPStrategy
from mmengine.runner import CheckpointLoader
from torch.distributed.fsdp import StateDictType

import mmreuse.engine  # noqa: F401 (fills the registries)
from mmreuse.engine import launch
from mmreuse.engine.runners.sharded import ResumableFSDPStrategy
from mmreuse.errors import ConfigError
from mmreuse.utils.files.io import read_json

ROOT = Path(__file__).resolve().parents[2]
TRAINING = f"""
_base_ = ['{ROOT}/configs/_base_/datasets/digits.py', '{ROOT}/configs/_base_/default_runtime.py']

model = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', img_size=8, patch_size=4, out_type='cls_token',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)),
    head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=10, in_channels=16, topk=(1, ),
              loss=dict(type='mmpretrain.CrossEntropyLoss')))
train_dataloader = dict(batch_size=BATCH, num_workers=0, drop_last=True)  # else the last ones differ
val_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = dict(type='CosineAnnealingLR', T_max=2, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
"""
SHARDED = """
_base_ = ['training.py', '{root}/configs/_base_/strategies/fsdp.py']

strategy = dict(model_wrapper=dict(auto_wrap_policy=dict(min_num_params=500)))
"""


@pytest.fixture
def arguments(tmp_path):
    def make(name: str, text: str, launcher: str = 'none', **options) -> Namespace:
        (tmp_path / f'{name}.py').write_text(text)
        return Namespace(config=str(tmp_path / f'{name}.py'), launcher=launcher, work_dir=str(tmp_path / f'run-{name}'),
                         cfg_options=options or None, seed=None, local_rank=0)
    return make


def run_on_ranks(args: Namespace, port: int) -> None:
    def rank(number: int) -> None:
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(port))
        torch.set_num_threads(1)
        runner = launch.build_runner(launch.prepare(args))
        launch.run(runner)
        held = sum(parameter.numel() for parameter in runner.model.parameters())
        Path(args.work_dir, f'held{number}').write_text(str(held))
        launch.leave_process_group()

    forks = [multiprocessing.get_context('fork').Process(target=rank, args=(number,)) for number in range(2)]
    for fork in forks:
        fork.start()
    for fork in forks:
        fork.join(120)
    assert [fork.exitcode for fork in forks] == [0, 0]


def weights(folder: str, epoch: int) -> dict[str, torch.Tensor]:
    return CheckpointLoader.load_checkpoint(f'{folder}/epoch_{epoch}.pth', 'cpu')['state_dict']


def test_shares_train_as_the_whole_does(arguments, tmp_path):
    start = str(tmp_path / 'start.pth')
    whole = arguments('training', TRAINING.replace('BATCH', '512'), load_from=start)
    runner = launch.build_runner(launch.prepare(whole))
    runner.model.init_weights()
    torch.save(dict(state_dict=runner.model.state_dict()), start)
    launch.run(runner)
    arguments('training', TRAINING.replace('BATCH', '256'))
    shares = arguments('shares', SHARDED.format(root=ROOT), 'pytorch', load_from=start)
    port = 20000 + os.getpid() % 20000
    run_on_ranks(shares, port)
    expected, found = weights(whole.work_dir, 2), weights(shares.work_dir, 2)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-5, msg=name)
    total = sum(tensor.numel() for tensor in expected.values())
    held = [int(Path(shares.work_dir, f'held{number}').read_text()) for number in range(2)]
    assert all(each < 0.7 * total for each in held) and sum(held) >= total
    metrics = read_json(Path(shares.work_dir) / 'metrics.json')
    assert metrics['epoch'] == 2 and 'val/accuracy/top1' in metrics
    # The checkpoint is tested in one process as any other, and trained on by as many as wrote it.
    runner = launch.test_runner(launch.prepare(arguments('shares', SHARDED.format(root=ROOT))),
                                f'{shares.work_dir}/epoch_2.pth')
    assert 0 <= launch.test(runner)['accuracy/top1'] <= 100
    # What a kill could leave is passed over.
    last = Path(shares.work_dir) / 'last_checkpoint'
    last.write_text('')
    more = arguments('shares', SHARDED.format(root=ROOT), 'pytorch', **{'train_cfg.max_epochs': 3, 'resume': True})
    run_on_ranks(more, port + 1)
    assert read_json(Path(shares.work_dir) / 'metrics.json')['epoch'] == 3
    assert any(not torch.equal(tensor, found[name]) for name, tensor in weights(shares.work_dir, 3).items())


def test_a_checkpoint_that_is_not_completed_leaves_the_one_before(tmp_path, monkeypatch):
    def write_half(self: FSDPStrategy, filename: str) -> None:
        Path(filename).write_bytes(b'half')
        raise KeyboardInterrupt

    file = tmp_path / 'epoch_1.pth'
    file.write_bytes(b'whole')
    monkeypatch.setattr(FSDPStrategy, 'save_checkpoint', write_half)
    strategy = ResumableFSDPStrategy.__new__(ResumableFSDPStrategy)  # processes and a network are not needed
    strategy.state_dict_type = StateDictType.FULL_STATE_DICT
    with pytest.raises(KeyboardInterrupt):
        strategy.save_checkpoint(str(file))
    assert file.read_bytes() == b'whole' and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize('more, message', [
    ('', "strategy = 'ResumableFSDPStrategy' shares a network among processes, and this is one alone"),
    ("launcher = 'pytorch'\nstrategy = None", 'needs a strategy. Add'),
    ("launcher = 'pytorch'\ncustom_hooks = [dict(type='EMAHook')]", 'custom_hooks EMAHook see a share of the network'),
])
def test_what_cannot_be_shared_out_is_refused(arguments, more, message):
    arguments('training', TRAINING.replace('BATCH', '512'))
    cfg = launch.load_config(arguments('shares', SHARDED.format(root=ROOT).partition('strategy =')[0] + more).config)
    with pytest.raises(ConfigError, match=message):
        launch.build_runner(cfg)
