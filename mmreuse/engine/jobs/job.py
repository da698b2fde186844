"""What jobs say of themselves where they are registered: networks taken, data needed, what comes of classes."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.networks import record_of
from mmreuse.networks.record import zeros_of
from mmreuse.registry import JOBS
from mmreuse.statistics.passes import images_of
from mmreuse.utils.configs.components import check_keywords
from mmreuse.utils.names import nearest

#: Names of the outputs of a network in their order, or how many there are.
Classes = Sequence[str] | int
#: What a run hands to jobs, beside their options.
GIVEN = ('networks', 'images', 'labelled', 'validation', 'seed', 'folder')
_NEEDS = ('images', 'labelled', 'validation', 'folder')


def _same_classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    return given[0]


@dataclass(frozen=True)
class Traits:
    """What :func:`register_job` was told."""
    least: int
    most: int | None
    needs: tuple[str, ...]
    classes: Callable[[Mapping[str, Any], Sequence[Classes], Classes], Classes]
    equal_cost: Callable[..., nn.Module | None] | str
    check: Callable[[Mapping[str, Any]], None] | None


@dataclass(frozen=True)
class Job:
    """A job with its options.

    Attributes:
        name: Under which it is registered.
        function: ``f(networks, images, *, labelled, validation, seed, **options)``, and ``folder`` where it needs one.
        options: Of the config.
        traits: What it says of itself.
    """
    name: str
    function: Callable[..., nn.Module]
    options: Mapping[str, Any]
    traits: Traits

    def check_networks(self, count: int) -> None:
        """Raise :class:`ConfigError` unless the job takes so many networks."""
        least, most = self.traits.least, self.traits.most
        if count < least or most is not None and count > most:
            wanted = f'{least}' if most == least else f'{least} or more' if most is None else f'{least} to {most}'
            raise ConfigError(f"the job '{self.name}' takes {wanted} network{'s' * (wanted != '1')}, and networks has "
                              f'{count}.')

    def classes(self, given: Sequence[Classes], data: Classes) -> Classes:
        """Return what the outputs of the job's network are.

        Args:
            given: The outputs of each network that it takes.
            data: The classes that labels of its data count.

        Raises:
            ConfigError: The networks' classes do not go together.
        """
        return self.traits.classes(self.options, given, data)

    def run(self, networks: Sequence[nn.Module], images: Iterable | None, *, labelled: Iterable | None = None,
            validation: Iterable | None = None, seed: int = 0, folder: Path | None = None) -> nn.Module:
        """Do the job.

        Args:
            networks: Left as they are.
            images: Prepared batches, kept from pass to pass.
            labelled: Prepared batches of images and labels, augmented anew in every pass.
            validation: Likewise of other data, to choose by.
            seed: Of all random draws.
            folder: For files beside the network.
        """
        more = dict(folder=folder) if 'folder' in self.traits.needs else {}
        return self.function(list(networks), images, labelled=labelled, validation=validation, seed=seed, **more,
                             **self.options)

    def equal_cost(self, networks: Sequence[nn.Module], result: nn.Module, images: Iterable | None, *,
                   labelled: Iterable | None = None, seed: int = 0) -> nn.Module | None:
        """Return a network that costs what the job's network costs and was chosen without its method, if one can be."""
        baseline = self.traits.equal_cost
        if isinstance(baseline, str):
            return None
        return baseline(list(networks), result, images, labelled=labelled, seed=seed, **self.options)


def register_job(*, networks: tuple[int, int | None] = (1, 1), needs: Sequence[str] = ('images',),
                 classes: Callable[..., Classes] = _same_classes, equal_cost: Callable[..., nn.Module | None] | str,
                 check: Callable[[Mapping[str, Any]], None] | None = None) -> Callable[[Callable], Callable]:
    """Register a job under the name of its function.

    Args:
        networks: The least and the largest number that it takes; None for any.
        needs: Of ``'images'``, ``'labelled'``, ``'validation'``, ``'folder'``.
        classes: ``f(options, given, data)``: the classes of its network, of those given and those of the data. The
            default is those of the first network.
        equal_cost: ``f(networks, result, images, *, labelled, seed, **options)``: a network of the result's cost to
            compare it with; or the reason why there is none.
        check: Raises :class:`ConfigError` for options that make no sense.

    Raises:
        ValueError: ``needs`` names something else.
    """
    if wrong := [need for need in needs if need not in _NEEDS]:
        raise ValueError(f"a job cannot need '{wrong[0]}': a run gives {', '.join(_NEEDS)}.")

    def register(function: Callable) -> Callable:
        function.traits = Traits(*networks, tuple(needs), classes, equal_cost, check)
        JOBS.register_module(name=function.__name__, module=function)
        return function
    return register


def find_job(cfg: Mapping[str, Any], place: str = 'job') -> Job:
    """Return the job that a config names.

    Args:
        cfg: ``dict(type=NAME, **options)``.
        place: Where it stands, for errors.

    Raises:
        ConfigError: There is none of that name, or an option does not exist, is missing, or makes no sense.
    """
    JOBS.import_from_location()
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f"{place} = {cfg!r}: expected dict(type=NAME, ...). {nearest('', JOBS.module_dict)}")
    name, options = cfg['type'], {key: value for key, value in cfg.items() if key != 'type'}
    if name not in JOBS.module_dict:
        raise ConfigError(f"{place}.type: there is no job '{name}'. {nearest(str(name), JOBS.module_dict)}")
    function = JOBS.module_dict[name]
    if wrong := [key for key in options if key in GIVEN]:
        raise ConfigError(f"{place}: '{wrong[0]}' is given to {name} by the run; take it out.")
    check_keywords(place, function, options, given_by_code=GIVEN)
    job = Job(name, function, options, function.traits)
    if job.traits.check is not None:
        try:
            job.traits.check(options)
        except ConfigError as error:
            raise ConfigError(f'{place}: {error}') from error
    return job


def example(networks: Sequence[nn.Module], images: Iterable | None) -> Tensor:
    """Return one image of zeros, as the networks take it.

    Raises:
        ConfigError: There are no images, and nothing is known of what the networks take.
    """
    first = next(iter(images), None) if images is not None else None
    if first is not None:
        return torch.zeros_like(images_of(first, networks[0])[:1])
    known = zeros_of(record_of(networks[0]).inputs)
    if not known:
        raise ConfigError('it is not known what the networks take: give a train_dataloader.')
    return known[0]
