"""Renormalization as a hook."""
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook

from mmreuse.engine.merging import matching_images, renormalize_merged, validation_score
from mmreuse.engine.unwrap_model import averages_follow, model_of, parameters_may_change, resumed
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import MergedClassifier
from mmreuse.registry import HOOKS, RENORMALIZERS
from mmreuse.utils.configs.methods import MethodLike, find_method


@HOOKS.register_module()
class RenormalizationHook(Hook):
    """Correct the statistics of a merged model on the images of the training loader.

    Renormalizers that choose (``auto``, ``bias_removal``) do so by the first metric of the run's validation.

    Args:
        renormalizers: Names or configs of :data:`mmreuse.registry.RENORMALIZERS`, called one after the other.
    """
    # After what changes the model.
    priority = 'BELOW_NORMAL'

    def __init__(self, renormalizers: Sequence[MethodLike] = ('reset',)) -> None:
        self.renormalizers = list(renormalizers)

    def before_run(self, runner: Any) -> None:
        """Find what is wrong before time is spent.

        Raises:
            ConfigError: There is no such renormalizer or option, or one chooses and the run has no validation.
            DataError: There are too few images.
        """
        for renormalizer in self.renormalizers if runner.train_loop is not None else []:  # nothing in a test
            method = find_method(RENORMALIZERS, renormalizer)
            if method.chooses and runner.val_loop is None:
                raise ConfigError(f'renormalizer {renormalizer} chooses on validation data, and the config has no '
                                  'val_dataloader. Add one, of images that are not tested on.')
            samples = method.options.get('samples')
            matching_images(runner).check(samples, 'RenormalizationHook')

    def before_train(self, runner: Any) -> None:
        """Renormalise, unless the run is resumed."""
        if resumed(runner):
            return
        model, loop = model_of(runner, MergedClassifier), runner.val_loop
        score = None if loop is None else validation_score(model, loop.dataloader, loop.evaluator)
        with parameters_may_change(runner):
            seconds = renormalize_merged(model, matching_images(runner), self.renormalizers, score)
        averages_follow(runner)
        runner.message_hub.update_scalars(seconds)
