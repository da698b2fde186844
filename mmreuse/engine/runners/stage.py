"""Base of all stages that are no trainings: its folder, when it may be skipped, its metrics."""
import json
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_world_size, init_dist, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.registry import SCOPE
from mmreuse.utils.files.atomic import sole_use
from mmreuse.utils.files.io import read_json, to_json, write_json
from mmreuse.utils.files.manifest import PUT_ASIDE, changed_outputs, hash_named_files, read_manifest, write_manifest
from mmreuse.utils.files.results import with_results


class StageRunner(ABC):
    """One stage: reads artefacts, writes artefacts, ``metrics.json`` and ``manifest.json``.

    A stage writes into ``work_dir/<stage>``. When a finished run of the same settings on the
    same inputs already lies there, and its files are as it wrote them, nothing is computed
    again. ``metrics.json`` of the stage is flat: documented keys to numbers.

    A subclass names its :attr:`stage`, the config keys that make it (:attr:`settings`), the
    artefacts it stands on (:meth:`inputs`) and does its work in :meth:`execute`.

    Args:
        cfg: The whole config. Read here: ``work_dir``, ``seed`` (0), ``device`` (the best
            present), ``launcher`` (``'none'``), ``overwrite`` (False: reuse a finished run).
    """

    stage: str
    settings: tuple[str, ...] = ()
    #: Whether several processes may run it together: passes over data are shared out or equal, the main one writes.
    distributed: bool = True
    #: Seconds that it waits for another run in its folder; None for a few.
    patience: float | None = None

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.file = str(cfg.filename or 'config')  # for errors
        for key in self.settings:
            if cfg.get(key) is not None:
                cfg[key] = with_results(cfg[key])
        self.root = Path(cfg.work_dir)
        self.folder = self.root / self.stage
        self.seed = int(cfg.get('seed') or 0)
        self.device = cfg.get('device') or get_device()
        self.launcher = cfg.get('launcher', 'none')
        DefaultScope.get_instance(f'{SCOPE}-{self.stage}', scope_name=SCOPE)

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'StageRunner':
        """Build the stage as mmengine builds runners."""
        return cls(cfg)

    def inputs(self) -> dict[str, str]:
        """Return hashes of inputs beside the files that its settings name; a change makes the stage run again."""
        return {}

    @cached_property
    def made_from(self) -> dict[str, str]:
        """Return the hashes of all that the stage stands on, as they are when it begins."""
        return {**hash_named_files(Config({key: self.cfg[key] for key in self.settings}).to_dict()), **self.inputs()}

    def check(self) -> None:
        """Find what is wrong with the settings before time is spent; a pipeline checks all its stages first.

        Raises:
            ConfigError: Something is.
        """
        missing = [key for key in self.settings if self.cfg.get(key) is None]
        if missing:
            raise ConfigError(
                f'{self.file}: {type(self).__name__} needs the keys {", ".join(missing)}. '
                'See docs/en/explanation/algorithms/dery.md for what each holds.')

    @abstractmethod
    def execute(self) -> dict[str, Any]:
        """Do the work, write the artefacts into :attr:`folder`, return the metrics."""

    def tell(self) -> None:  # noqa: B027 (most stages tell nothing)
        """Write for people what has just been computed, beside the artefacts."""

    def run(self) -> dict[str, Any]:
        """Run the stage, or reuse its finished result.

        Returns:
            dict[str, Any]: What ``metrics.json`` holds.

        Raises:
            ConfigError: The settings are wrong, or several processes run a stage that measures in one.
        """
        if self.launcher != 'none' and not is_distributed():
            init_dist(self.launcher, **self.cfg.get('env_cfg', {}).get('dist_cfg', {}))
        if not self.distributed and get_world_size() > 1:
            raise ConfigError(
                f'{self.file}: {type(self).__name__} measures in one process: each of '
                f'{get_world_size()} would see a part of the data and write results of its own. Start it without '
                '--launcher.')
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logger = MMLogger.get_instance(
            f'mmreuse.{self.stage}', log_file=str(self.folder / 'stage.log'), file_mode='a')
        set_random_seed(self.seed)
        self.check()
        if self.changed() != []:
            self.share_out()
        with sole_use(self.folder, self.patience) if is_main_process() else nullcontext():
            return self._run()

    def share_out(self) -> None:  # noqa: B027 (nothing is what most stages share out)
        """Do what runs of this stage that are started together can divide among them, outside of its folder."""

    def changed(self) -> list[str] | None:
        """Return which outputs are not as a finished run of this very stage left them; None where all is to be made."""
        return None if self.cfg.get('overwrite', False) else self._changed_outputs()

    def _run(self) -> dict[str, Any]:
        changed = self.changed()
        if changed == []:
            self.logger.info(f'{self.stage}: up to date in {self.folder} (same settings, same inputs, same outputs)')
            return read_json(self.folder / 'metrics.json')
        started = time.time()
        self._forget(changed or [])
        metrics = self.execute()
        barrier()
        if is_main_process():
            write_json(self.folder / 'metrics.json', metrics)
            # Last, so that its presence says that the stage is complete.
            write_manifest(self.folder, stage=self.stage, config=self.recorded_settings(), inputs=self.made_from,
                           seed=self.seed, started=started)
            self.tell()
            self.logger.info(f'{self.stage}: done in {time.time() - started:.1f} s, {self.folder}')
        barrier()
        return metrics

    def recorded_settings(self) -> dict[str, Any]:
        """Return the settings that define the stage, as a manifest gives them back (tuples become lists)."""
        settings = Config({key: self.cfg[key] for key in self.settings}).to_dict()
        return json.loads(to_json(settings, f'settings of {self.stage}'))

    def discard(self, changed: list[str]) -> None:
        """Put aside what was finished and is no longer as it was written, lest the stage builds on it."""
        for name in changed:
            path = self.folder / name
            if not path.exists():
                self.logger.warning(f'{path}: is gone; made again.')
                continue
            aside = path.with_name(path.name + PUT_ASIDE)
            self.logger.warning(f'{path}: is not as it was written; made again. The old one is now {aside.name}.')
            path.replace(aside)

    def _changed_outputs(self) -> list[str] | None:
        """Return the changed outputs of a finished run of this very stage; None where there is no such run."""
        try:
            manifest = read_manifest(self.folder)
        except ArtefactError:
            return None
        if (manifest['config'], manifest['inputs'], manifest['seed']) != (
                self.recorded_settings(), self.made_from, self.seed):
            return None
        return changed_outputs(self.folder, manifest)

    def _forget(self, changed: list[str]) -> None:
        """Delete the completion marker before artefacts change."""
        barrier()
        if is_main_process():
            self.discard(changed)
            (self.folder / 'manifest.json').unlink(missing_ok=True)
        barrier()
