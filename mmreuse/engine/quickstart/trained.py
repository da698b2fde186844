"""Networks of the quick start that are trained once, and what its jobs hand back."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.engine import launch
from mmreuse.engine.classifiers import load_classifier
from mmreuse.engine.run_config import configured, run_config
from mmreuse.registry import SCOPE
from mmreuse.utils.files.io import read_json
from mmreuse.utils.files.results import last_checkpoint
from mmreuse.utils.tables import Rows

CONFIGS = Path('configs/quickstart')
METRIC = 'accuracy/top1'
SHAPE = (3, 8, 8)
#: Test images.
SAMPLES = 300
Step = Callable[[str], None]


@dataclass(frozen=True)
class Told:
    """What a job says on the screen: a few rows, and sentences that follow from them."""
    rows: Rows
    said: Sequence[str]


@dataclass(frozen=True)
class Trained:
    """One trained network of the quick start."""
    name: str
    config: Path
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    def fit(self, step: Step) -> None:
        """Train, unless a finished run lies in the folder; go on where a killed one stopped.

        Args:
            step: Is told what is trained.
        """
        if self.done:
            return
        step(f'training {self.name}')
        options = dict(self.options)
        if any(self.folder.glob('*.pth')):
            # Resumed with load_from, a run would take that file for its own.
            options.pop('load_from', None)
        run_config(self.config, work_dir=self.folder, options=options, resume='load_from' not in options)
        cfg = configured(self.config, self.folder, self.options)
        launch.test(launch.test_runner(cfg, str(self.checkpoint)))

    @property
    def done(self) -> bool:
        """Return whether it was trained and tested."""
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
        """Return the last checkpoint."""
        return last_checkpoint(self.folder)

    def build(self) -> nn.Module:
        """The trained network; from prepared images to scores."""
        init_default_scope(SCOPE)
        return load_classifier(configured(self.config, options=self.options), self.checkpoint, 'cpu')
