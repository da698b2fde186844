"""Jobs by name, and what all of them have to know."""
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.distillation.controls import redraw
from mmreuse.errors import ConfigError, DataError
from mmreuse.networks import record_of
from mmreuse.networks.record import zeros_of
from mmreuse.registry import JOBS, Job
from mmreuse.renormalization.methods.auto import calibrates
from mmreuse.statistics.passes import images_of
from mmreuse.utils.configs.components import check_keywords
from mmreuse.utils.names import nearest

#: Names of the outputs of a network in their order, or how many there are.
Classes = Sequence[str] | int
#: How metrics of a network's modules begin.
MODULES = 'modules'
#: Endings of the names of weights and statistics; other buffers, such as masks, may hold infinity.
_NUMBERS = ('weight', 'bias', 'running_mean', 'running_var')


def find_job(cfg: Mapping[str, Any], place: str = 'job') -> Job:
    """Return the job that a config names, with its options bound.

    Args:
        cfg: ``dict(type=NAME, **options)``.
        place: Where it stands, for errors.

    Raises:
        ConfigError: There is none of that name, or an option does not exist, is missing, or makes no sense.
    """
    JOBS.import_from_location()
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f"{place} = {cfg!r}: expected dict(type=NAME, ...). {nearest('', JOBS.module_dict)}")
    if cfg['type'] not in JOBS.module_dict:
        raise ConfigError(f"{place}.type: there is no job '{cfg['type']}'. "
                          f"{nearest(str(cfg['type']), JOBS.module_dict)}")
    job, given = JOBS.build(cfg), ('networks', *JOBS.given)
    if wrong := [key for key in job.options if key in given]:
        raise ConfigError(f"{place}: '{wrong[0]}' is given to {job.name} by the run; take it out.")
    check_keywords(place, job.function, job.options, given_by_code=given)
    if job.check is not None:
        try:
            job.check(job.options)
        except ConfigError as error:
            raise ConfigError(f'{place}: {error}') from error
    return job


def check_count(job: Job, count: int) -> None:
    """Raise :class:`ConfigError` unless a job takes so many networks."""
    least, most = job.networks
    if count < least or most is not None and count > most:
        wanted = f'{least}' if most == least else f'{least} or more' if most is None else f'{least} to {most}'
        raise ConfigError(f"the job '{job.name}' takes {wanted} network{'s' * (wanted != '1')}, and networks has "
                          f'{count}.')


def check_weights(job: Job, networks: Sequence[nn.Module]) -> None:
    """Raise :class:`DataError` if a weight of a network, or a statistic of a batch norm, is not finite."""
    for number, network in enumerate(networks):
        for name, tensor in network.state_dict().items():
            if name.endswith(_NUMBERS) and tensor.is_floating_point() and not tensor.isfinite().all():
                raise DataError(f"the job '{job.name}' cannot start: '{name}' of network {number} is not finite. Its "
                                'training has diverged or its file is wrong; give another network.')


def equal_cost_network(job: Job, networks: Sequence[nn.Module], result: nn.Module, *, seed: int,
                       **given: Any) -> nn.Module | None:
    """Return a network that costs what a job's result costs and was chosen without its method, if there can be one.

    Args:
        job: The job.
        networks: That it took.
        result: The network that it made of them.
        seed: Of random draws.
        **given: What the run gave.
    """
    if isinstance(job.equal_cost, str):
        return None
    return job.equal_cost(networks, result, **{**job.options, **job.accepted(given), 'seed': seed})


def calibrated_from_random(job: Job, networks: Sequence[nn.Module], *, seed: int, **given: Any) -> nn.Module | None:
    """Return what a job makes if its calibration starts from random weights; None for a job that does not calibrate.

    What such a network reaches, too, is not owed to what the job did before it calibrated. A job that may choose to
    calibrate (``auto``) chooses again, from the same candidates.

    Args:
        job, networks, seed, given: As for :func:`equal_cost_network`.
    """
    repairs = job.options.get('renormalizers') or ()
    if not calibrates(repairs):
        return None
    return job.function(networks, **{**job.options, **job.accepted({**given, 'seed': seed}),
                                     'renormalizers': [partial(redraw, seed=seed), *repairs]})


def example(networks: Sequence[nn.Module], images: Iterable | None) -> Tensor:
    """Return one image of zeros, as the networks take it.

    Raises:
        ConfigError: There are no images, and nothing is known of what the networks take.
    """
    first = next(iter(images), None) if images is not None else None
    if first is not None:
        return torch.zeros_like(images_of(first, networks[0])[:1])
    known = zeros_of(record_of(networks[0]).inputs, networks[0])
    if not known:
        raise ConfigError('it is not known what the networks take: give a train_dataloader.')
    return known[0]
