"""The networks that the stage of a job takes: files, and what stages before it make."""
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from mmreuse.engine.classifiers import plain
from mmreuse.engine.jobs.job import Classes
from mmreuse.errors import ConfigError
from mmreuse.networks import open_network
from mmreuse.networks.content.modules import kept_modules, split_name
from mmreuse.utils.files.results import NETWORK_FILE
from mmreuse.utils.names import nearest

if TYPE_CHECKING:
    from mmreuse.engine.runners.network import NetworkRunner


def named_stage(reference: Any, stages: Collection[str]) -> tuple[str | None, str | None]:
    """Return the stage that a reference names, and the module of it that ``STAGE#NAME`` means; None for neither."""
    if not isinstance(reference, str):
        return None, None
    if reference in stages:
        return reference, None
    stage, mark, module = reference.partition('#')
    return (stage, module) if mark and stage in stages else (None, None)


class StageNetworks:
    """The networks that a stage takes.

    Args:
        references: Of the config: names of stages, with ``#NAME`` behind one for a module of it, and references of
            :func:`mmreuse.networks.open_network`.
        earlier: Stages that may be named.
    """

    def __init__(self, references: Sequence[Any], earlier: Mapping[str, 'NetworkRunner']) -> None:
        self.references = list(references)
        self.earlier = dict(earlier)
        self._opened: dict[int, nn.Module] = {}

    def __len__(self) -> int:
        """Count them."""
        return len(self.references)

    def stage(self, number: int) -> tuple['NetworkRunner | None', str | None]:
        """Return the stage that makes one of them, None for a file; and the name of the module of it that is meant."""
        name, module = named_stage(self.references[number], self.earlier)
        return (None if name is None else self.earlier[name]), module

    @cached_property
    def labels(self) -> list[str]:
        """Return the name of each in metrics and tables."""
        found = []
        for number, reference in enumerate(self.references):
            file = reference if isinstance(reference, str) else next(
                (reference[key] for key in ('weights', 'checkpoint', 'config') if reference.get(key)), '')
            path, module = split_name(str(file))
            name = module or (path.parent.name if path.name == NETWORK_FILE else path.stem)
            found.append(name if name and name not in found else f'{name or "network"} {number}')
        return found

    def outputs(self, number: int) -> Classes | None:
        """Return the outputs of one that a stage makes; None for a file.

        Raises:
            ConfigError: The stage makes no such module.
        """
        stage, module = self.stage(number)
        if stage is None or module is None:
            return None if stage is None else stage.outputs
        if module not in stage.modules:
            made = nearest(module, stage.modules) if stage.modules else 'It makes none.'
            raise ConfigError(f"networks[{number}] = '{self.references[number]}': the stage '{stage.stage}' makes no "
                              f"module '{module}'. {made}")
        return stage.modules[module]

    def modules(self) -> dict[str, Classes]:
        """Return the outputs of the modules that the first of them has, by name."""
        stage, module = self.stage(0)
        if stage is not None:
            return stage.modules if module is None else {}
        return {name: list(map(str, each.about['classes'])) for name, each in kept_modules(self.open(0)).items()}

    def open(self, number: int) -> nn.Module:
        """Return one of them, on the CPU."""
        if number not in self._opened:
            stage, module = self.stage(number)
            self._opened[number] = open_network(
                plain(self.references[number]) if stage is None else
                stage.result if module is None else f'{stage.result}#{module}')
        return self._opened[number]

    def adopt(self, networks: Sequence[nn.Module]) -> None:
        """Take networks that were opened before, so that it is not done twice."""
        self._opened.update(enumerate(networks))

    def close(self) -> None:
        """Forget the networks that are open."""
        self._opened.clear()
