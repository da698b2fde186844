"""Closed-form initialisation of stitching layers at the start of training."""
import math
from typing import Any

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmreuse.engine.unwrap_model import model_of, models_of, resumed
from mmreuse.errors import ConfigError
from mmreuse.models.backbones import DeRy
from mmreuse.models.backbones.dery import record_assembly
from mmreuse.reassembly.assembly.stitching_init import RIDGE, stitch_by_least_squares
from mmreuse.reassembly.zoo.zoo import Preprocess
from mmreuse.registry import HOOKS
from mmreuse.statistics.passes import images_of


@HOOKS.register_module()
class StitchingInitHook(Hook):
    """Fit the stem and the stitching layers of a :class:`DeRy` backbone to what its blocks were trained on.

    Runs once, before the first iteration; not when a run is resumed. Images come from the training
    set, as it augments them.

    Args:
        samples: Images to use.
        ridge: Penalty on the weights, see :func:`mmreuse.reassembly.assembly.stitching_init.stitch_by_least_squares`.
        calibrate_blocks: Also refit the blocks, behind their joints, to what they gave in their own networks.
        end_steps: Gradient steps towards the outputs of the networks behind the joints, see the same.

    Raises:
        ConfigError: ``samples`` is no positive whole number, ``end_steps`` no whole number, or ``ridge`` no positive
            number.
    """
    # After weights are loaded, before averaged copies of the model are made.
    priority = 'VERY_HIGH'
    makes_network = True

    def __init__(self, samples: int = 512, ridge: float = RIDGE, calibrate_blocks: bool = False,
                 end_steps: int = 0) -> None:
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
            raise ConfigError(f'StitchingInitHook: samples = {samples!r} must be a whole number above 0.')
        if not isinstance(ridge, int | float) or not 0 < ridge < math.inf:
            raise ConfigError(f'StitchingInitHook: ridge = {ridge!r} must be a positive number.')
        if not isinstance(end_steps, int) or isinstance(end_steps, bool) or end_steps < 0:
            raise ConfigError(f'StitchingInitHook: end_steps = {end_steps!r} must be a whole number, 0 for none.')
        self.samples = samples
        self.ridge = ridge
        self.calibrate_blocks = calibrate_blocks
        self.end_steps = end_steps

    def before_train(self, runner: Any) -> None:
        """Fit and log the errors left at every joint."""
        if resumed(runner):
            return
        model = model_of(runner)
        if not isinstance(getattr(model, 'backbone', None), DeRy):
            raise ConfigError('custom_hooks: StitchingInitHook fits the joints of a DeRy backbone, but the model has '
                              f'{type(getattr(model, "backbone", model)).__name__}. Remove the hook.')
        errors = stitch_by_least_squares(
            model.backbone, self._images(runner, model), _preprocess_of(model), ridge=self.ridge,
            calibrate_blocks=self.calibrate_blocks, end_steps=self.end_steps)
        for tensor in model.backbone.state_dict().values():
            broadcast(tensor)
        listed = ', '.join(f'{error:.3f}' for error in errors)
        runner.logger.info(f'Stitching layers fitted on {self.samples} images; relative errors by block: {listed}')

    def after_train(self, runner: Any) -> None:
        """Note on the network what it was made of."""
        record_assembly(models_of(runner)[-1])

    def _images(self, runner: Any, model: nn.Module) -> list[Tensor]:
        """Return the first images of the training set, kept so that all joints see the same."""
        batches, left = [], self.samples
        for batch in runner.train_dataloader:
            batches.append(images_of(batch, model)[:left])
            left -= len(batches[-1])
            if left <= 0:
                break
        return batches


def _preprocess_of(model: nn.Module) -> Preprocess:
    """Return the normalisation of the model's images in the terms of a zoo."""
    mean, std = (getattr(model.data_preprocessor, name, None) for name in ('mean', 'std'))
    if mean is None:
        raise ConfigError('StitchingInitHook: data_preprocessor must have mean and std, or the images of the zoo '
                          'cannot be made from those of the training.')
    return Preprocess(mean=tuple((mean / 255).flatten().tolist()), std=tuple((std / 255).flatten().tolist()))
