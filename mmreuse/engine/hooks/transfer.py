"""Start training on another task from a pretrained network."""
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmreuse.engine.unwrap_model import model_of
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model
from mmreuse.models.classifiers import load_pretrained
from mmreuse.modularization import RunSelection
from mmreuse.pruning import apply_masks, prune_weights
from mmreuse.registry import HOOKS, SALIENCIES
from mmreuse.utils.configs.methods import MethodLike, find_method
from mmreuse.utils.files.io import load_checkpoint, state_hash
from mmreuse.utils.files.state_fit import load_strictly, weights_of

_KEEP = ('none', 'frozen')


def best_checkpoint(path: Path) -> Path:
    """Return a checkpoint, or, of a run's folder, the best of the run.

    Raises:
        ArtefactError: There is none.
    """
    found = [path] if path.is_file() else sorted(path.glob('best_*.pth'), key=lambda each: each.stat().st_mtime)
    if not found:
        raise ArtefactError(f'{path}: is neither a checkpoint nor a folder with a best_*.pth. Run the training that '
                            'writes it first.')
    return found[-1]


@HOOKS.register_module()
class TransferInitHook(Hook):
    """Starts a classifier from a pretrained network, with masks that an earlier run has learned.

    The backbone gets the pretrained weights, zero where the masks say so; the output layer is new, or that of another
    run. Paths of earlier runs are relative to the work_dir: ``'../masks/selection.pth'``.

    Args:
        checkpoint: Of the pretrained network, see :func:`mmreuse.models.classifiers.load_pretrained`.
        masks: ``selection.pth`` of a :class:`~mmreuse.engine.hooks.MaskThresholdHook`; None for all weights.
        saliency: Name or config of :data:`mmreuse.registry.SALIENCIES` that needs no data: as many weights as the masks
            keep, but those that it finds most salient. A baseline.
        keep_mask: ``'none'``: weights that start at zero are trained like all others, as published; ``'frozen'``: they
            are set back to zero after every step, whatever gradient, momentum and weight decay did.
        head: Checkpoint, or folder, of a run with the same output layer.

    Raises:
        ConfigError: There is no such ``keep_mask`` or saliency, or it is of masks that are not given.
    """
    # Before hooks that look at the weights.
    priority = 'HIGHEST'

    def __init__(self, checkpoint: str, masks: str | None = None, saliency: MethodLike | None = None,
                 keep_mask: str = 'none', head: str | None = None) -> None:
        if keep_mask not in _KEEP:
            raise ConfigError(f"TransferInitHook: keep_mask='{keep_mask}' is none of {_KEEP}.")
        if masks is None and (saliency is not None or keep_mask != 'none'):
            raise ConfigError('TransferInitHook: saliency and keep_mask are of masks. Give masks=PATH.')
        if saliency is not None:
            find_method(SALIENCIES, saliency)
        self.checkpoint = checkpoint
        self.masks = masks
        self.saliency = saliency
        self.keep_mask = keep_mask
        self.head = head
        self.kept: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Set the weights, unless the run goes on.

        Raises:
            ArtefactError: A file is missing, or of another network.
            ConfigError: The data have another number of classes than the output layer.
        """
        model, folder = model_of(runner), Path(runner.work_dir)
        _check_classes(model, runner)
        device = next(model.parameters()).device
        pretrained = copy_model(model.backbone)
        load_pretrained(pretrained, self.checkpoint)
        if self.masks is not None:
            self.kept = {name: mask.to(device) for name, mask in self._find_masks(pretrained, folder).items()}
        if runner.iter > 0:
            return
        model.backbone.load_state_dict(pretrained.state_dict())
        apply_masks(dict(model.backbone.named_parameters()), self.kept)
        if self.head is not None:
            _load_head(model, best_checkpoint(folder / self.head))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Set what is frozen back to zero."""
        if self.keep_mask == 'frozen':
            apply_masks(dict(model_of(runner).backbone.named_parameters()), self.kept)

    def _find_masks(self, pretrained: nn.Module, folder: Path) -> dict[str, Tensor]:
        """Return True where a parameter of the backbone is kept, by its name."""
        path = folder / self.masks
        known = RunSelection.read(path)
        if known.base != state_hash(pretrained):
            raise ArtefactError(f'{path}: holds masks of other weights than those of {self.checkpoint}. Learn masks of '
                                'these, or name the checkpoint they were learned for.')
        kept = {name.removesuffix('_mask'): mask for name, mask in known.masks().items()}
        if self.saliency is None:
            return kept
        weights = {name: mask for name, mask in kept.items() if name.endswith('weight')}
        zeros = sum(int((~mask).sum()) for mask in weights.values()) / sum(mask.numel() for mask in weights.values())
        return prune_weights(pretrained, None, zeros, self.saliency)


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Keeps maps with their channels last in memory: on CPUs, depthwise convolutions train about twice as fast."""

    # Behind hooks that set weights.
    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        """Convert the weights; maps follow them."""
        model_of(runner).to(memory_format=torch.channels_last)


def _check_classes(model: nn.Module, runner: Runner) -> None:
    dataset = runner.train_dataloader.dataset
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    labels = getattr(model.head, 'num_classes', None)
    if classes is not None and labels is not None and len(classes) != labels:
        raise ConfigError(f'model.head.num_classes = {labels}, but {type(dataset).__name__} has {len(classes)} '
                          f'classes. Set model.head.num_classes = {len(classes)}.')


def _load_head(model: nn.Module, path: Path) -> None:
    """Take the output layer over.

    Raises:
        ArtefactError: The file holds none, or one of another size.
    """
    state = weights_of(load_checkpoint(path), path)
    head = {name.removeprefix('head.'): tensor for name, tensor in state.items() if name.startswith('head.')}
    load_strictly(model.head, head, path, remedy="Name a run of the same network and data: its 'head.' is taken over.")
