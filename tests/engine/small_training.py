"""A training that takes a second, for tests of runners and hooks."""
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import mmreuse.engine  # noqa: F401 (registers hooks and loaders)
from mmreuse.engine import SafeRunner


class Net(BaseModel):
    """Two linear layers and a batch norm."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x, y, mode='tensor'):
        scores = self.inner(x)
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(scores, y))
        return [scores]


class Score(BaseMetric):
    """Scores given in advance, one per validation."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(acc=next(self.scores))


def make_loader(samples=12):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 4, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=4)


def make_runner(work_dir, epochs=2, runner=SafeRunner, checkpoint=None, custom_hooks=None, scores=(.1, .2, .3, .4),
                **options):
    torch.manual_seed(0)
    if checkpoint is None:
        checkpoint = dict(type='CheckpointHook', interval=1)
    return runner(
        model=Net(), work_dir=str(work_dir), train_dataloader=make_loader(), val_dataloader=make_loader(),
        val_evaluator=Evaluator(Score(scores)), val_cfg=dict(type='ValLoop'),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1, momentum=.9)),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=10, end=10),
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=custom_hooks, default_scope='mmreuse', experiment_name=f'run_{id(object())}_{work_dir}',
        log_level='WARNING', **options)


__all__ = ['Net', 'Runner', 'make_loader', 'make_runner']
