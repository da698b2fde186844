"""Pruning while a network trains."""
import math
from typing import Any

import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from torch import Tensor
from torch.utils.data import DataLoader

from mmreuse.engine.unwrap_model import model_of, models_of
from mmreuse.errors import ConfigError
from mmreuse.networks import record_edit
from mmreuse.networks.record import plain_network
from mmreuse.pruning import apply_masks, find_masks, listed_weights, make_permanent, polynomial, prune_weights
from mmreuse.pruning.scoring import check_saliency
from mmreuse.pruning.selection import check_sparsity
from mmreuse.registry import HOOKS
from mmreuse.utils.configs.methods import MethodLike, method_name

#: Where a checkpoint keeps the masks.
MASKS = 'pruning_masks'


@HOOKS.register_module()
class PruneHook(Hook):
    """Prune at once or step by step, and keep what is pruned at zero.

    Sparsity follows :func:`mmreuse.pruning.polynomial`; between the steps, and after the last, the network trains. With
    ``train_cfg=dict(by_epoch=True, max_epochs=0)`` and one step at 0 it is only pruned.
    Masks are applied after every step of the optimizer, to the network, to averages of it (``EMAHook``) and to what the
    optimizer keeps for each weight, and stored in checkpoints. A network without stored masks that has zeros already
    keeps these.

    Args:
        sparsity: Reached at ``end``, of the listed weights.
        begin: Epoch or iteration before which the first step is taken.
        end: That of the last step; None for ``begin``: one shot.
        interval: Epochs or iterations between steps.
        by_epoch: Whether ``begin``, ``end`` and ``interval`` count epochs.
        initial: Sparsity at ``begin``.
        power: Of the polynomial.
        saliency: Name or config of :data:`mmreuse.registry.SALIENCIES`.
        seed: Of the training images for the Fisher, which are drawn anew at every step, as the training augments
            them.
        modules: As for :func:`mmreuse.pruning.prune_weights`.
        exclude: Likewise.
        **options: ``scope``, ``update`` and ``fisher`` of :func:`mmreuse.pruning.prune_weights`.

    Raises:
        ConfigError: A sparsity is not in [0, 1), the steps make no sense, or a method does not exist.
    """
    # Before averages of weights are taken and checkpoints written.
    priority = 'VERY_HIGH'
    makes_network = True

    def __init__(self, sparsity: float, begin: int = 0, end: int | None = None, interval: int = 1,
                 by_epoch: bool = True, initial: float = 0., power: float = 3., saliency: MethodLike = 'magnitude',
                 seed: int = 0, modules: list[str] | None = None, exclude: list[str] = (), **options: Any) -> None:
        check_sparsity(sparsity)
        check_sparsity(initial)
        check_saliency(saliency, **options)
        end = begin if end is None else end
        if not (0 <= begin <= end and interval > 0 and initial <= sparsity and 0 < power < math.inf):
            raise ConfigError(f'PruneHook: begin={begin}, end={end}, interval={interval}, initial={initial}, '
                              f'power={power}: steps go forward from begin to end, and sparsity grows.')
        self.steps = sorted({*range(begin, end, interval), end})
        self.schedule = dict(begin=begin, end=end, final=sparsity, initial=initial, power=power)
        self.by_epoch = by_epoch
        self.saliency = saliency
        self.seed = seed
        self.listed = dict(modules=modules, exclude=exclude)
        self.options = options
        self.masks: dict[str, Tensor] = {}

    def before_train(self, runner: Any) -> None:
        """Find the weights; take masks over from the checkpoint, or from zeros."""
        loop = runner.train_loop
        if self.steps[-1] >= max(1, loop.max_epochs if self.by_epoch else loop.max_iters):
            raise ConfigError(f"PruneHook: the last step is before {'epoch' if self.by_epoch else 'iteration'} "
                              f'{self.steps[-1]}, at which training is over. Train longer or end sooner.')
        model = model_of(runner)
        make_permanent(model)
        weights = listed_weights(model, **self.listed)
        stored, self.masks = self.masks, find_masks(weights)
        if stored and stored.keys() != weights.keys():
            other = sorted(stored.keys() ^ weights.keys())[0]
            raise ConfigError(f"PruneHook: the checkpoint was pruned in other modules ('{other}' is in only one of the "
                              'two). Use its modules and exclude.')
        for name, mask in stored.items():
            self.masks[name] = mask.to(weights[name].device)
        self._apply(runner)

    def initialise_only(self, runner: Any) -> None:
        """Prune a network that is not trained afterwards."""
        if 0 in self.steps:
            self._prune(runner, 0)

    def before_train_epoch(self, runner: Any) -> None:
        """Prune, where steps count epochs."""
        if self.by_epoch and runner.epoch in self.steps:
            self._prune(runner, runner.epoch)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Prune, where steps count iterations."""
        if not self.by_epoch and runner.iter in self.steps:
            self._prune(runner, runner.iter)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Set what is pruned back to zero, before averages take it up."""
        self._apply(runner)

    def after_train(self, runner: Any) -> None:
        """Note on the network what was done to it."""
        network = plain_network(models_of(runner)[-1])
        record_edit(network, 'prune', [network], sparsity=self.schedule['final'], saliency=method_name(self.saliency))

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Store the masks: a kept weight may be zero by chance."""
        checkpoint[MASKS] = {name: mask.cpu() for name, mask in self.masks.items()}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Read them."""
        self.masks = checkpoint.get(MASKS, {})

    def _prune(self, runner: Any, step: int) -> None:
        sparsity = polynomial(step, **self.schedule)
        model = model_of(runner)
        if is_main_process():
            self.masks = prune_weights(model, self._loader(runner, step), sparsity, self.saliency, masks=self.masks,
                                       **self.listed, **self.options)
        for name, weight in listed_weights(model, **self.listed).items():
            broadcast(weight.data)
            broadcast(self.masks[name])
        self._apply(runner)
        kept = sum(int(mask.sum()) for mask in self.masks.values())
        reached = 1 - kept / sum(mask.numel() for mask in self.masks.values())
        runner.message_hub.update_scalar('train/sparsity', reached)
        runner.logger.info(f'Pruned to sparsity {reached:.4f} of the listed weights.')

    def _apply(self, runner: Any) -> None:
        """Mask all that holds a value for each weight: the model, its averages, momenta."""
        for model in models_of(runner):
            apply_masks(listed_weights(model, **self.listed), self.masks)
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper] if wrapper else []
        for name, weight in listed_weights(model_of(runner), **self.listed).items():
            states = [value for each in wrappers for value in each.optimizer.state.get(weight, {}).values()
                      if isinstance(value, Tensor) and value.shape == weight.shape]
            for state in states:
                apply_masks({name: state}, {name: self.masks[name]})

    def _loader(self, runner: Any, step: int) -> DataLoader:
        """Return the training images in an order of their own: the run's loader is in use."""
        loader = runner.train_dataloader
        return DataLoader(loader.dataset, loader.batch_size, shuffle=True, collate_fn=loader.collate_fn,
                          generator=torch.Generator().manual_seed(self.seed + step))
