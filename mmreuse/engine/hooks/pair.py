"""Hooks of runs that train several networks: a checkpoint for each, how far apart they are, what lies between them."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmreuse.engine.unwrap_model import model_of, resumed
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.merging import barrier, curve, points
from mmreuse.models.classifiers import ClassifierPair
from mmreuse.registry import HOOKS
from mmreuse.renormalization.apply import find_methods
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import load_checkpoint, read_json, write_json


def nets_of(runner: Runner) -> nn.ModuleList:
    """Return the networks of a runner's model.

    Raises:
        ConfigError: The model is not a pair.
    """
    return model_of(runner, ClassifierPair).nets


def net_checkpoint(folder: str | Path, number: int, epoch: int) -> Path:
    """Return the checkpoint of one network of a pair after an epoch."""
    return Path(folder) / f'net{number}_epoch_{epoch}.pth'


@HOOKS.register_module()
class NetCheckpointHook(Hook):
    """Writes ``net1_epoch_<n>.pth``, ``net2_epoch_<n>.pth``, ...: checkpoints of single classifiers.

    They load wherever a checkpoint of the pair's ``classifier`` does.

    Args:
        interval: Epochs between checkpoints. The start (epoch 0) and the last epoch are always written.

    Raises:
        ConfigError: The model is not a pair.
    """

    priority = 'LOW'

    def __init__(self, interval: int = -1) -> None:
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Write the start."""
        nets_of(runner)
        if not resumed(runner):
            self._write(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write an epoch that is due."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self._write(runner, runner.epoch + 1)

    @staticmethod
    def _write(runner: Runner, epoch: int) -> None:
        if not is_main_process():
            return
        for number, net in enumerate(nets_of(runner), 1):
            with atomic_path(net_checkpoint(runner.work_dir, number, epoch)) as path:
                torch.save(dict(meta=dict(epoch=epoch), state_dict=net.state_dict()), path)


@HOOKS.register_module()
class ParameterDistanceHook(Hook):
    """Logs Euclidean distances after every epoch: between each two networks, and from each network to its own start.

    The scalars are ``distance/1-2`` and ``distance/1-start``, ... in the run's visualizer.

    Raises:
        ConfigError: The model is not a pair.
        ArtefactError: A run is resumed and the starts that :class:`NetCheckpointHook` writes are gone.
    """

    def before_train(self, runner: Runner) -> None:
        """Remember the starts."""
        nets = nets_of(runner)
        if not resumed(runner):
            self.starts = [_flat(net).clone() for net in nets]
            return
        paths = [net_checkpoint(runner.work_dir, number, 0) for number in range(1, len(nets) + 1)]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise ArtefactError(f'{missing}: missing. ParameterDistanceHook measures from the start of training: add '
                                'NetCheckpointHook, or begin anew.')
        self.starts = []
        for net, path in zip(nets, paths, strict=True):
            state = load_checkpoint(path)['state_dict']
            self.starts.append(torch.cat([state[name].flatten() for name, _ in net.named_parameters()]))

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the distances."""
        flats = [_flat(net) for net in nets_of(runner)]
        found = {f'distance/{number}-start': float((flat - start.to(flat)).norm())
                 for number, (flat, start) in enumerate(zip(flats, self.starts, strict=True), 1)}
        found |= {f'distance/{first + 1}-{second + 1}': float((flats[first] - flats[second]).norm())
                  for second in range(len(flats)) for first in range(second)}
        runner.visualizer.add_scalars(found, step=runner.epoch + 1)
        runner.logger.info(', '.join(f'{name} {value:.2f}' for name, value in found.items()))


@torch.no_grad()
def _flat(net: nn.Module) -> Tensor:
    return torch.cat([parameter.flatten() for parameter in net.parameters()])


@HOOKS.register_module()
class InterpolationHook(Hook):
    """Measure the networks on the line between those that are trained, on the validation data, during the training.

    Writes all points into ``interpolation.json`` and logs ``barrier/<renormalizer>/accuracy`` (percent) and
    ``barrier/<renormalizer>/loss``, see :func:`mmreuse.merging.barrier`.

    Args:
        fraction: Of the training between two probes; the first is before training, the last behind it.
        number: Points on the line, the ends included.
        renormalizers: Names to configs, or lists of them, as :func:`mmreuse.merging.interpolation.curve` takes them.
        The networks as
            they are, ``none``, are always measured.
        samples: How many images of the training data renormalizers take statistics of.

    Raises:
        ConfigError: The model is not a pair, there are no validation data, the fraction is shorter than an epoch or
            above 1, or a renormalizer does not exist.
    """

    priority = 'LOW'

    def __init__(self, fraction: float = 0.25, number: int = 11, renormalizers: Mapping[str, Any] | None = None,
                 samples: int = 2048) -> None:
        if not 0 < fraction <= 1:
            raise ConfigError(f'InterpolationHook: fraction={fraction} of the training is not in (0, 1].')
        self.fraction = fraction
        self.weights = points(number)
        self.renormalizers = {'none': [], **(renormalizers or {})}
        for renormalizer in self.renormalizers.values():
            find_methods(renormalizer)
        self.samples = samples

    def before_train(self, runner: Runner) -> None:
        """Probe the start."""
        nets = nets_of(runner)
        if len(nets) != 2:
            raise ConfigError(f'InterpolationHook: a line has two ends; the model has {len(nets)} nets.')
        if runner.val_loop is None:
            raise ConfigError('InterpolationHook measures on validation data: give the config a val_dataloader.')
        if self.fraction * runner.max_epochs < 1:
            raise ConfigError(f'InterpolationHook: fraction={self.fraction} of {runner.max_epochs} epochs is less than '
                              'one epoch.')
        steps = int(1 / self.fraction + 1e-9)
        self.due = {int(step * self.fraction * runner.max_epochs + 1e-9) for step in range(1, steps + 1)}
        self.due.add(runner.max_epochs)
        if not resumed(runner):
            self._probe(runner, 0)

    def after_train_epoch(self, runner: Runner) -> None:
        """Probe an epoch that is due."""
        if runner.epoch + 1 in self.due:
            self._probe(runner, runner.epoch + 1)

    def _probe(self, runner: Runner, epoch: int) -> None:
        rows = curve(list(nets_of(runner)), self.weights, runner.train_dataloader, runner.val_dataloader,
                     renormalizers=self.renormalizers, samples=self.samples)
        barriers = {}
        for name in self.renormalizers:
            found = barrier([row for row in rows if row['renormalizer'] == name])
            barriers |= {f'barrier/{name}/accuracy': found['accuracy/top1'], f'barrier/{name}/loss': found['loss']}
        known = {key: value for key, value in barriers.items() if value is not None}
        runner.visualizer.add_scalars(known, step=epoch)
        runner.logger.info(f'Epoch {epoch}: ' + ', '.join(f'{key} {value:.4g}' for key, value in known.items()))
        if is_main_process():
            self._write(Path(runner.work_dir) / 'interpolation.json', epoch, rows)

    @staticmethod
    def _write(path: Path, epoch: int, rows: Sequence[Mapping[str, Any]]) -> None:
        before = read_json(path, required=('rows',))['rows'] if epoch and path.is_file() else []
        kept = [row for row in before if row['epoch'] < epoch]
        write_json(path, dict(rows=kept + [dict(epoch=epoch, **row) for row in rows]))
