"""Hooks of runs that train several nets: a checkpoint for each, and how far apart they are."""
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.classifiers import ClassifierPair
from mmreuse.registry import HOOKS
from mmreuse.utils.io import atomic_path, load_checkpoint


def nets_of(runner: Runner) -> nn.ModuleList:
    """The nets of a runner's model.

    Raises:
        ConfigError: The model is not a pair.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, ClassifierPair):
        raise ConfigError(f'this hook works on a ClassifierPair; the config has model.type = {type(model).__name__}.')
    return model.nets


def net_checkpoint(folder: str | Path, number: int, epoch: int) -> Path:
    """Where the weights of a net after an epoch are."""
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
        if runner.epoch == 0:
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
    """Logs Euclidean distances after every epoch: between each two nets, and from each net to its own start.

    The scalars are ``distance/1-2`` and ``distance/1-start``, ... in the run's visualizer.

    Raises:
        ConfigError: The model is not a pair.
        ArtefactError: A run is resumed and the starts that :class:`NetCheckpointHook` writes are gone.
    """

    def before_train(self, runner: Runner) -> None:
        """Remember the starts."""
        nets = nets_of(runner)
        if runner.epoch == 0:
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
