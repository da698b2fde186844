"""Training within a job: an ordinary run in the job's folder, which a killed job resumes."""
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmreuse.engine.runner import SafeRunner
from mmreuse.engine.training.replay import OwnDraws, fresh_loader
from mmreuse.errors import DataError
from mmreuse.graph import tensors_in
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.statistics.data import repeatable
from mmreuse.utils.files.io import short_hash, state_hash

#: Folder of the runs in that of the job.
TRAINING = 'training'
Loss = Callable[[Any], Tensor]


class _Trained(BaseModel):
    """A network as the runner steps it.

    Args:
        network: Has its weights already.
        loss: Of a batch.
    """

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def init_weights(self) -> None:
        """Keep the weights."""

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Compute the network's outputs."""
        return self.network(inputs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Take one step.

        Raises:
            DataError: The loss is not finite.
        """
        with optim_wrapper.optim_context(self):
            loss = self.loss(data)
        if not math.isfinite(value := loss.item()):
            raise DataError(f'the loss is {value}: training has diverged. Lower optimizer.lr.')
        optim_wrapper.update_params(loss)
        return dict(loss=loss.detach())


class _Run(SafeRunner):
    """A run in one process, whose network stays where the job has put it."""

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Return the model as it is."""
        return model


def train_in_folder(network: nn.Module, data: Iterable, loss: Loss, folder: Path, *, epochs: int,
                    optimizer: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None,
                    seed: int = 0, made_of: Any = None) -> None:
    """Train a network in place, at a rate that falls along a cosine to nothing.

    Killed and called again with the same arguments, it resumes from the checkpoint of the last epoch and ends with the
    same weights, bit for bit. Every training has a folder of its own below ``folder / TRAINING``, named by its
    settings, initial weights and first batch, so that none resumes another; whoever keeps the network removes them.

    Args:
        network: Its trainable parameters are trained; what the loss needs beside it stays out of it.
        data: As jobs are given them, or anything that :func:`mmreuse.statistics.data.batches` takes. Of a
            :class:`~mmreuse.statistics.cached_loader.CachedLoader` every epoch reads and augments the loader anew.
        loss: From a prepared batch, ``images`` or ``(images, labels)``, to a scalar.
        folder: Of the job.
        epochs: Passes over the data.
        optimizer: Config of :data:`mmengine.registry.OPTIMIZERS`.
        paramwise_cfg: Of mmengine's optimizer constructor; names of parameters begin with ``network.``.
        seed: Of batches, their augmentation and each step's draws.
        made_of: What the loss depends on beside the network, such as its options and hashes of other networks;
            JSON-encodable.

    Raises:
        DataError: The loss is not finite, or the weights are not in the end.
    """
    cached = isinstance(data, CachedLoader)
    loader = repeatable(data.loader if cached else data)
    loader = fresh_loader(loader) if isinstance(loader, DataLoader) else DataLoader(list(loader), batch_size=None)
    prepare = data.prepare if cached else lambda batch: batch
    settings = dict(epochs=epochs, optimizer=dict(optimizer), paramwise_cfg=paramwise_cfg, seed=seed,
                    made_of=made_of)
    run = folder / TRAINING / _fingerprint(network, loader, prepare, settings)
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
                 logger=dict(type='LoggerHook', interval=100))
    if not hasattr(loader.batch_sampler, 'sampler'):
        hooks['sampler_seed'] = None  # there is no order to draw
    runner = _Run(
        model=_Trained(network, lambda batch: loss(prepare(batch))), work_dir=str(run), train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(optimizer), paramwise_cfg=paramwise_cfg),
        param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False, T_max=len(loader) * epochs),
        default_hooks=hooks, randomness=dict(seed=seed), resume=True, default_scope='mmreuse',
        experiment_name=f'{run}_{id(network)}')
    runner.train()
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise DataError('weights are not finite after the last step: training has diverged. Lower optimizer.lr, and '
                        'check that images are normalised.')


def _fingerprint(network: nn.Module, loader: DataLoader, prepare: Callable[[Any], Any], settings: Any) -> str:
    """Return what tells one training from others."""
    with OwnDraws(settings['seed']):
        first = dict(enumerate(tensors_in(prepare(next(iter(loader))))))
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    made_of = [state_hash(network), trained, state_hash(first), len(loader), settings]
    return short_hash(made_of, 'settings of the training')
