"""The model of a runner, as hooks and loops need it."""
from typing import TypeVar

from mmengine.model import BaseAveragedModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mmreuse.errors import ConfigError

Model = TypeVar('Model', bound=nn.Module)


def model_of(runner: Runner, *kinds: type[Model]) -> Model:
    """The runner's model, without what distributes it.

    Args:
        runner: Which has built its model.
        kinds: Classes that it may be of; none: any.

    Raises:
        ConfigError: It is of another class.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if kinds and not isinstance(model, kinds):
        wanted = ' or a '.join(kind.__name__ for kind in kinds)
        raise ConfigError(f'model.type = {type(model).__name__}, but what the config asks for works on a {wanted}.')
    return model


def models_of(runner: Runner, *kinds: type[Model]) -> list[Model]:
    """The runner's model and the averages of it that hooks keep (:class:`mmengine.hooks.EMAHook`).

    Averages are what is validated, tested and saved as ``state_dict``: what holds for the model must hold for them. The
    last in the list is what was validated.

    Args:
        runner: As for :func:`model_of`.
        kinds: Likewise.

    Raises:
        ConfigError: The model is of another class.
    """
    return [model_of(runner, *kinds), *(value.module for hook in runner.hooks for value in vars(hook).values()
                                        if isinstance(value, BaseAveragedModel | AveragedModel))]
