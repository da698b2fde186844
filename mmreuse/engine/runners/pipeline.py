"""Jobs one behind the other: each takes files, or what stages before it have made."""
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger

from mmreuse.engine.classifiers import plain
from mmreuse.engine.reports.pipeline import report_pipeline
from mmreuse.engine.runners.network import NetworkRunner
from mmreuse.engine.runners.stage_networks import named_stage
from mmreuse.errors import ConfigError
from mmreuse.registry import RUNNERS
from mmreuse.utils.files.io import write_json
from mmreuse.utils.names import nearest

#: What a stage sets for itself and those that build on its network, unless they set it.
_TEST = ('test_dataloader', 'test_evaluator')


@RUNNERS.register_module()
class PipelineRunner:
    """Stages of :class:`~mmreuse.engine.runners.network.NetworkRunner`, checked together before the first one starts.

    Config: ``stages``, a list of ``dict(name='small', job=dict(type='prune_channels', target=0.5),
    networks=['merged'])``, where ``networks`` names earlier results, modules of them (``'merged#cat'``) or references
    of :func:`mmreuse.networks.open_network`. Data, evaluator and preprocessing are those of the config; a stage may
    have loaders, evaluator and seed of its own, and what it is tested on holds for the stages behind it too. ``only``
    names stages to run, on what the others have left.

    Stages that are up to date are skipped. Writes the folder of every stage, and for the whole ``table.csv``,
    ``report.html``, ``figure.png`` and ``metrics.json``.

    Raises:
        ConfigError: A name is unknown, given twice or part of a cycle.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.root = Path(cfg.work_dir)
        self.place = f"{cfg.filename or 'config'}: stages"
        self.settings = {str(stage.get('name')): plain(stage) for stage in cfg.get('stages') or ()}
        self._check_names()
        self.stages: dict[str, NetworkRunner] = {}
        for name in self._order():
            self.stages[name] = self._stage(name)
        only = cfg.get('only') or list(self.settings)
        self.only = [only] if isinstance(only, str) else list(only)
        for name in self.only:
            if name not in self.settings:
                raise ConfigError(f"{cfg.filename}: only: there is no stage '{name}'. {nearest(name, self.settings)}")

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'PipelineRunner':
        """Build it as mmengine builds runners."""
        return cls(cfg)

    def check(self) -> None:
        """Check all stages, each with what those before it will have made.

        Raises:
            ConfigError: Stages do not fit together, or one that is not run now has left no network.
            ArtefactError: A file is missing or damaged.
        """
        for stage in self.stages.values():
            stage.check()
        for name in self.only:
            for other in self._earlier(name):
                if other not in self.only and not self.stages[other].result.is_file():
                    raise ConfigError(f"{self.place}: '{name}' needs the network of '{other}', which has not run yet. "
                                      'Run it first, or take it into only.')

    def run(self) -> dict[str, Any]:
        """Run the stages that are not up to date, and tell of all that have a result.

        Returns:
            dict[str, Any]: The metrics of the stages that were asked for, as ``<stage>/<metric>``.
        """
        self.check()
        found = {name: stage.run() for name, stage in self.stages.items() if name in self.only}
        metrics = {f'{name}/{key}': value for name, own in found.items() for key, value in own.items()}
        report = report_pipeline(self.root, self.cfg, self.stages, found)
        MMLogger.get_current_instance().info(f'The report of all stages is {report}')
        write_json(self.root / 'metrics.json', metrics)
        return metrics

    def _check_names(self) -> None:
        names = [stage.get('name') for stage in self.cfg.get('stages') or ()]
        if not names:
            raise ConfigError(f'{self.place}: there are none.')
        for number, name in enumerate(names):
            if not isinstance(name, str) or not name or Path(name).name != name or Path(name).suffix:
                raise ConfigError(f'{self.place}[{number}].name = {name!r}: give a name for the folder of the stage.')
            if name in names[:number]:
                raise ConfigError(f"{self.place}[{number}].name = '{name}' is given twice. Names tell results apart.")

    def _earlier(self, name: str) -> list[str]:
        """Return the names of the stages that one takes networks of.

        Raises:
            ConfigError: A name is neither of a stage nor of a file.
        """
        found = []
        for reference in self.settings[name].get('networks') or ():
            stage, _ = named_stage(reference, self.settings)
            if stage is not None:
                found.append(stage)
            elif isinstance(reference, str) and not Path(reference).suffix:
                raise ConfigError(f"{self.place}: '{name}' takes the network '{reference}', which is neither a stage "
                                  f'nor a file. {nearest(reference, [each for each in self.settings if each != name])}')
        return found

    def _order(self) -> list[str]:
        """Return the names of the stages, each behind those that it needs.

        Raises:
            ConfigError: Some need each other.
        """
        try:
            return list(TopologicalSorter({name: self._earlier(name) for name in self.settings}).static_order())
        except CycleError as error:
            circle = ' <- '.join(f"'{name}'" for name in error.args[1])
            raise ConfigError(f'{self.place}: each of {circle} needs the network of another, so that none can be made '
                              'first.') from error

    def _stage(self, name: str) -> NetworkRunner:
        shared = {key: value for key, value in self.cfg.to_dict().items() if key not in ('stages', 'only')}
        earlier = {each: self.stages[each] for each in self._earlier(name)}
        first = next(iter(earlier.values()), None)
        inherited = {key: plain(first.cfg.get(key)) for key in _TEST} if first is not None else {}
        own = {key: value for key, value in self.settings[name].items() if key != 'name'}
        return NetworkRunner(Config({**shared, **inherited, **own}, filename=self.cfg.filename), name, earlier)
