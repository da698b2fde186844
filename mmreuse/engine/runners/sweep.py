"""Stages that measure the cells of a table, one after another."""
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.engine.classifiers import load_classifier, plain, training_images
from mmreuse.engine.evaluation import evaluate
from mmreuse.engine.reports.sweep import report_sweep
from mmreuse.engine.runners.stage import StageRunner
from mmreuse.errors import ConfigError
from mmreuse.registry import Method
from mmreuse.renormalization.apply import find_methods
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import read_json, write_json
from mmreuse.utils.names import refuse_unknown
from mmreuse.utils.tables import write_rows


class SweepRunner(StageRunner):
    """A table over the settings of one part of the config, its :attr:`stage`.

    Config: ``model`` (a classifier, or the :class:`~mmreuse.models.ClassifierPair` it was trained in),
    ``train_dataloader`` (images for statistics, augmented as there), ``test_dataloader``, ``test_evaluator``, and
    the part. ``test_cfg.fp16`` measures in half precision, as in mmengine.

    Writes ``results.json``, ``results.csv`` and ``figure.png`` after every measurement, and ``report.html`` at the end.
    A sweep that was killed goes on where it was, and cells may be added to a finished one. It runs in one process:
    gradients, statistics, choices and tables are of all the data, not of a rank's share.

    A subclass says which keys its part may have (:attr:`keys`) and which it must (:attr:`needed`), which columns tell
    the cells apart (:attr:`columns`), and which of these hold names that the part explains (:attr:`named`, as
    ``dict(method='methods')``): a row counts no longer once what its names mean has changed. Any other change of
    settings or inputs spoils all rows, but for keys in :attr:`lists`, which only say what cells are wanted.
    """

    distributed = False
    keys: ClassVar[tuple[str, ...]]
    needed: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]]
    named: ClassVar[Mapping[str, str]] = {}
    lists: ClassVar[tuple[str, ...]] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the config keys that make the table, with the validation data if something is chosen on them."""
        data = ('train_dataloader', 'test_dataloader', 'test_evaluator')
        return 'model', self.stage, *data, *(('val_dataloader',) if self.choosers() else ())

    @property
    def part(self) -> dict[str, Any]:
        """Return the sweep's part of the config, as plain containers."""
        return plain(self.cfg[self.stage])

    def check(self) -> None:
        """Check also that the part has the keys it needs and no unknown ones, and that there are data to choose on."""
        if 'val_dataloader' in self.settings and self.cfg.get('val_dataloader') is None:
            raise ConfigError(f"{self.cfg.filename}: renormalizer '{self.choosers()[0]}' chooses on validation data, "
                              'and there is no val_dataloader. Add one, of images that are not tested on.')
        super().check()
        refuse_unknown(f'{self.cfg.filename}: {self.stage}', self.part, self.keys, 'key')
        missing = [key for key in self.needed if not self.part.get(key)]
        if missing:
            raise ConfigError(f'{self.cfg.filename}: {self.stage} needs {" and ".join(missing)}, and says nothing of '
                              f'{"them" if len(missing) > 1 else "it"}. Add what is to be measured.')

    @abstractmethod
    def draw(self) -> Figure:
        """Return the figure of :attr:`rows`."""

    def tell(self) -> None:
        """Write ``report.html``."""
        if self.rows:
            report_sweep(self.folder, self.cfg, self.rows, self.columns, self.draw())

    def prepare(self) -> None:
        """Read the rows of earlier runs, build what measures."""
        self.test_loader = Runner.build_dataloader(plain(self.cfg.test_dataloader))
        self.rows = self._known_rows()

    def load_classifier(self, path: str | Path) -> nn.Module:
        """Return the classifier of the config with the weights of a checkpoint, on the device of the sweep."""
        return load_classifier(self.cfg, path, self.device)

    def training_images(self, seed: int) -> DataLoader:
        """Return the training images in the order, and with the augmentation, that a seed gives them."""
        return training_images(self.cfg, seed)

    def renormalizers(self) -> dict[str, list[Method]]:
        """Return the methods of each of the part's renormalizers, by name; ``'none'`` has none."""
        named = plain(self.cfg.get(self.stage) or {}).get('renormalizers', {})
        return {'none': [], **{name: find_methods(each) for name, each in named.items()}}

    def choosers(self) -> list[str]:
        """Return the names of the renormalizers that choose."""
        return [name for name, methods in self.renormalizers().items() if any(method.chooses for method in methods)]

    def validation(self, model: nn.Module) -> CachedLoader | None:
        """Return labelled images to choose on, as a model sees them; None where nothing is chosen."""
        if 'val_dataloader' not in self.settings:
            return None
        return CachedLoader(Runner.build_dataloader(plain(self.cfg.val_dataloader)), model, labelled=True)

    def evaluate(self, models: Sequence[nn.Module]) -> list[dict[str, float]]:
        """Return the metrics of each model, in one pass over the test data."""
        half = self.cfg.get('test_cfg', {}).get('fp16', False)
        return evaluate(models, self.test_loader, self.cfg.test_evaluator, half)

    def add(self, metrics: Mapping[str, float], **cell: Any) -> None:
        """Add a row; write table and figure."""
        self.add_rows([dict(cell, **metrics)])

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add rows that were measured together."""
        for row in rows:
            self.logger.info(', '.join(f'{key} {value:.4g}' if isinstance(value, float) else str(value)
                                       for key, value in row.items()))
            self.rows.append(row)
        self.write()

    def has(self, **cell: Any) -> bool:
        """Return whether a row of these values has been measured."""
        return any(all(row.get(key) == value for key, value in cell.items()) for row in self.rows)

    def metrics(self) -> dict[str, float]:
        """Return the table as flat metrics: ``<columns>/<metric>``."""
        return {'/'.join([*(f'{row[key]:g}' if isinstance(row[key], float) else str(row[key])
                            for key in self.columns if key in row), key]): value
                for row in self.rows for key, value in row.items()
                if key not in self.columns and isinstance(value, int | float)}

    def write(self) -> None:
        """Write ``results.json``, ``results.csv`` and ``figure.png``."""
        write_json(self.folder / 'results.json', dict(rows=self.rows, made_from=self._made_from()))
        write_rows(self.folder / 'results.csv', self.rows)
        with atomic_path(self.folder / 'figure.png') as path:
            self.draw().savefig(path, format='png', dpi=120)

    def _known_rows(self) -> list[dict[str, Any]]:
        path = self.folder / 'results.json'
        if self.cfg.get('overwrite', False) or not path.is_file():
            return []
        known = read_json(path, required=('rows', 'made_from'))
        now, before = self._made_from(), known['made_from']
        if now['common'] != before.get('common'):
            self.logger.info(f'{path}: of other weights, data or settings; measured anew.')
            return []
        # Names that the part does not explain, such as 'none', always mean the same.
        return [row for row in known['rows'] if all(
            now['names'][column].get(row.get(column)) == before['names'][column].get(row.get(column))
            for column in self.named)]

    def discard(self, changed: list[str]) -> None:
        """Discard the table, too, where files that rows stand for are gone, such as a pruned network's weights."""
        super().discard(changed)
        if set(changed) - {'results.csv', 'figure.png', 'metrics.json'}:
            (self.folder / 'results.json').unlink(missing_ok=True)

    def _common_inputs(self) -> dict[str, str]:
        """Return the inputs of all rows, but for those of single names (:meth:`recorded_settings` has their hashes)."""
        own = tuple(f'{self.stage}.{key}.' for key in (*self.named.values(), *self.lists))
        return {name: value for name, value in self.made_from.items() if not name.startswith(own)}

    def _made_from(self) -> dict[str, Any]:
        settings = self.recorded_settings()
        part = settings.pop(self.stage)
        names = {column: part.pop(key, {}) for column, key in self.named.items()}
        for key in self.lists:
            part.pop(key, None)
        return dict(common=dict(inputs=self._common_inputs(), settings=settings, part=part, seed=self.seed,
                                fp16=self.cfg.get('test_cfg', {}).get('fp16', False)), names=names)
