"""The model of a runner, as hooks and loops need it."""
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from mmengine.model import BaseAveragedModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mmreuse.errors import ConfigError

Model = TypeVar('Model', bound=nn.Module)


def model_of(runner: Runner, *kinds: type[Model]) -> Model:
    """Return the runner's model, without what distributes it.

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
    """Return the runner's model and the averages of it that hooks keep (:class:`mmengine.hooks.EMAHook`).

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


def averages_follow(runner: Runner) -> None:
    """Let averages that hooks keep have the structure of the runner's model, which is another than when they were made.

    They begin anew from it, unless the run is resumed.
    """
    for hook in runner.hooks:
        for average in vars(hook).values():
            if not isinstance(average, BaseAveragedModel):
                continue
            if not resumed(runner):
                average.module = copy.deepcopy(model_of(runner)).requires_grad_(False)
            average.avg_parameters = average.module.state_dict() if average.update_buffers else dict(
                average.module.named_parameters())


def resumed(runner: Runner) -> bool:
    """Return whether a run goes on from a checkpoint, so that its network has been initialised before."""
    return runner.iter > 0 or getattr(runner, 'resumed', False)


@contextmanager
def parameters_may_change(runner: Runner) -> Iterator[None]:
    """Let the optimizer follow if the block puts other parameters into the runner's model.

    Where they are others, optimizer and schedules are built anew from the config, and what distributes the model is
    wrapped around it again.
    """
    model = model_of(runner)
    before = list(model.parameters())  # kept, so that none of them is taken for one made in its place
    yield
    after = list(model.parameters())
    same = len(before) == len(after) and all(old is new for old, new in zip(before, after, strict=True))
    if same or not isinstance(runner.optim_wrapper, OptimWrapper | OptimWrapperDict):
        return
    if is_model_wrapper(runner.model):
        runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
    runner.optim_wrapper = runner.build_optim_wrapper(copy.deepcopy(runner.cfg.optim_wrapper))
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    if runner.param_schedulers is not None:
        runner.param_schedulers = runner.build_param_scheduler(copy.deepcopy(runner.cfg.param_scheduler))
    runner.optim_wrapper.initialize_count_status(runner.model, runner.iter, runner.max_iters)
