"""What the jobs of the quick start share: networks that are trained once, tables on the terminal."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from mmreuse.apis import evaluate
from mmreuse.engine.classifiers import load_classifier
from mmreuse.engine.run_config import configured, run_config
from mmreuse.utils.files.io import read_json
from mmreuse.utils.files.results import last_checkpoint

CONFIGS = Path('configs/quickstart')
METRIC = 'accuracy/top1'


@dataclass(frozen=True)
class Trained:
    """One trained network of the quick start."""
    name: str
    config: Path
    folder: Path
    options: dict[str, Any]

    def fit(self) -> None:
        """Train, unless a finished run lies in the folder; go on where a killed one stopped."""
        if not self.done:
            # One that starts from a file would resume from that file, as if it were its own.
            run_config(self.config, work_dir=self.folder, options=self.options, resume='load_from' not in self.options)
            evaluate(self.config, self.checkpoint, work_dir=self.folder, options=self.options)

    @property
    def done(self) -> bool:
        path = self.folder / 'metrics.json'
        return path.is_file() and f'test/{METRIC}' in read_json(path)

    @property
    def accuracy(self) -> float:
        """Per cent of the test digits."""
        return read_json(self.folder / 'metrics.json')[f'test/{METRIC}']

    @property
    def validation(self) -> float:
        """Per cent of the validation digits, after the last epoch."""
        return read_json(self.folder / 'metrics.json')[f'val/{METRIC}']

    @property
    def checkpoint(self) -> Path:
        return last_checkpoint(self.folder)

    def build(self) -> nn.Module:
        """The trained network; from prepared images to scores."""
        return load_classifier(configured(self.config, options=self.options), self.checkpoint, 'cpu')


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a table on the terminal."""
    table = Table(*header, title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
