"""Network files that runs leave beside their checkpoints."""
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmreuse.engine.training.checkpoint import HISTORIES
from mmreuse.engine.unwrap_model import models_of
from mmreuse.errors import ArtefactError
from mmreuse.models.classifiers import ModularClassifier
from mmreuse.networks import record_edit, record_of, save
from mmreuse.networks.record import plain_network
from mmreuse.statistics.passes import images_of
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.results import NETWORK_FILE
from mmreuse.utils.files.state_fit import check_fit


def makes_network(runner: Runner) -> bool:
    """Return whether hooks of a run make a network, rather than train the one of its config."""
    return any(getattr(hook, 'makes_network', False) for hook in runner.hooks)


def remove_networks(runner: Runner) -> None:
    """Remove what an earlier run has left: nobody shall take it for the result of one that was killed."""
    if is_main_process():
        for path in Path(runner.work_dir).glob(f'{Path(NETWORK_FILE).stem}*.safetensors'):
            path.unlink()


def write_networks(runner: Runner) -> None:
    """Write the network that a run has made as the network file of its work_dir; of several modules, each with number.

    Where the checkpoint hook keeps the best state (``save_best``), the network has that.

    A network that cannot be rebuilt is in the checkpoint only; the log says why.
    """
    if not is_main_process():
        return
    model = models_of(runner)[-1]  # as it was validated
    image = _image(runner, model)
    with _at_best(runner, model) as (epoch, scalars):
        for suffix, network, classes, metrics in _networks(runner, model, scalars):
            if runner.trains:
                record_edit(network, 'train', [network], epochs=epoch)
            path = Path(runner.work_dir) / f'{Path(NETWORK_FILE).stem}{suffix}.safetensors'
            try:
                save(network, path, inputs=image, classes=record_of(network).classes or classes, metrics=metrics,
                     preprocessing=runner.cfg.get('data_preprocessor') and runner.cfg.data_preprocessor.to_dict())
            except ArtefactError as error:
                runner.logger.warning(f'No network file is written, the network is in the checkpoint only: {error}')
            else:
                runner.logger.info(f'The network is {path}, which mmreuse.load opens.')


@contextmanager
def _at_best(runner: Runner, model: nn.Module) -> Iterator[tuple[int, dict[str, float]]]:
    """Put a model into the best state that was kept, within the block; yield its epoch and the last logged scalars.

    Modules are chosen by a hook of their own, so that they stay as they are.
    """
    path = None if isinstance(model, ModularClassifier) else _best_checkpoint(runner)
    if path is None:
        yield runner.epoch, {name: float(buffer.current()) for name, buffer in runner.message_hub.log_scalars.items()}
        return
    checkpoint, own = load_checkpoint(path), model.state_dict()
    best, last = checkpoint['state_dict'], {name: tensor.clone() for name, tensor in own.items()}
    check_fit(own, best, path)
    try:
        _copy(own, best)
        yield checkpoint['meta']['epoch'], {name: float(history['values'][-1])
                                            for name, history in checkpoint[HISTORIES].items()}
    finally:
        _copy(own, last)


def _best_checkpoint(runner: Runner) -> str | None:
    """Return the best checkpoint, by the first of the metrics that it is kept by; None where there is none."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and runner.trains:
            several = getattr(hook, 'best_ckpt_path_dict', {})
            return next(iter(several.values()), None) if several else getattr(hook, 'best_ckpt_path', None)
    return None


def _copy(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(values[name])


def _networks(runner: Runner, model: nn.Module,
              scalars: Mapping[str, float]) -> list[tuple[str, nn.Module, Any, dict[str, float]]]:
    """Return suffix of the file, network, classes and metrics of each network of a model."""
    metainfo = getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}
    if not isinstance(model, ModularClassifier):
        return [('', plain_network(model), metainfo.get('classes'), _metrics(scalars, 'val'))]
    if model.problems is None:
        return [('', model.plain_network(0, metainfo.get('classes')), None, _metrics(scalars, 'module'))]
    return [(f'_{number}', model.plain_network(number - 1, info['classes']), None,
             _metrics(scalars, f'module_{number}')) for number, info in enumerate(metainfo['problems'], 1)]


def _metrics(scalars: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return each scalar below a prefix, times left out."""
    return {name.removeprefix(f'{prefix}/'): value for name, value in scalars.items()
            if name.startswith(f'{prefix}/') and not name.endswith('time')}


def _image(runner: Runner, model: nn.Module) -> Tensor:
    loader = runner.train_dataloader
    return images_of(loader.collate_fn([loader.dataset[0]]), model)[:1]
