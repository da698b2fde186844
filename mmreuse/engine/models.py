"""The model of a runner, as hooks and loops need it."""
from typing import TypeVar

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

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
