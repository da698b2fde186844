"""The kinds of runs, each a command line on small networks of the digits."""
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmreuse.engine import launch
from mmreuse.engine.run_config import configured
from mmreuse.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path('tests/kills/configs')
#: Below the folder of a harness: everything that a run writes, which works there.
RUNS = Path('work_dirs')
#: What they start from.
SOURCES = Path('sources')


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Args:
        tool: In ``tools/``.
        config: In ``tests/kills/configs/``; none for a tool that has its own.
        arguments: More of the command line.
        resumes: Whether ``--resume`` makes the command go on; the others do that by themselves.
        sources: Whether it starts from the networks of :func:`make_sources`.
    """
    tool: str
    config: str = ''
    arguments: Sequence[str] = ()
    resumes: bool = False
    sources: bool = True

    def command(self, again: bool) -> list[str]:
        """Return the command line behind ``python``, from the folder that :func:`prepare` has made."""
        config = [str(CONFIGS / f'{self.config}.py')] if self.config else []
        return [f'tools/{self.tool}', *config, '--work-dir', str(RUNS / 'run'), *self.arguments,
                *(['--resume'] if again and self.resumes else [])]


KINDS = {
    'training': Kind('train.py', 'training', resumes=True, sources=False),
    'training, two workers': Kind('train.py', 'workers', resumes=True, sources=False),
    'pair': Kind('train.py', 'pair', resumes=True, sources=False),
    'merge': Kind('train.py', 'merge', resumes=True),
    'calibrate': Kind('train.py', 'calibrate'),
    'distil': Kind('train.py', 'distil'),
    'curve': Kind('vanishing_feature/curve.py', 'curve'),
    'sweep of merges': Kind('train.py', 'sweep'),
    'modularize': Kind('seam/reengineer.py', 'modularize', ['--targets', '3', '8']),
    'prune': Kind('pruning/prune.py', 'prune'),
    'prune channels': Kind('pruning/prune_channels.py', 'channels'),
    'features to reassembly': Kind('dery/run_pipeline.py', 'dery'),
    'pipeline': Kind('train.py', 'pipeline', sources=False),
    'quick start': Kind('quickstart.py', sources=False),
}
#: Numbers in the quick start's configs, and what makes a minute of its three.
_SHORT = dict(max_epochs=1, epochs=1, val_interval=1, num_samples=256, restarts=2, num_batches=2, num_candidates=6,
              finalists=3, top=1, points=3)


def prepare(folder: Path) -> None:
    """Make a folder that runs work in: the checkout's configs and tools; the configs of the quick start are shortened.
    """
    own = folder / 'configs' / 'quickstart'
    own.mkdir(parents=True)
    for path in (ROOT / 'tests', ROOT / 'tools', *(ROOT / 'configs').iterdir()):
        if path.name != own.name:
            (folder / path.relative_to(ROOT)).symlink_to(path)
    numbers = re.compile(rf'\b({"|".join(_SHORT)})=\d+')
    for path in (ROOT / 'configs' / own.name).glob('*.py'):
        (own / path.name).write_text(numbers.sub(lambda found: f'{found[1]}={_SHORT[found[1]]}', path.read_text()))


def make_sources() -> None:
    """Write the networks that runs start from, with random weights, into the working directory."""
    SOURCES.mkdir()
    init_default_scope('mmreuse')

    def save(name: str, config: str, model: Callable[[Config], dict] = lambda cfg: cfg.model, **options: int) -> None:
        torch.manual_seed(len(list(SOURCES.iterdir())))
        cfg = configured(CONFIGS / f'{config}.py', options=options)
        torch.save(dict(state_dict=MODELS.build(model(cfg)).state_dict()), SOURCES / f'{name}.pth')

    save('trained', 'training')
    save('net1', 'pair', lambda cfg: cfg.model.classifier)
    save('net2', 'pair', lambda cfg: cfg.model.classifier)
    save('half0', 'half')
    save('half1', 'half', part=1)
    launch.run(launch.build_runner(configured(CONFIGS / 'nets.py', 'nets')))
    for name in 'ab':
        shutil.copy(f'nets/{name}/network.safetensors', SOURCES / f'{name}.safetensors')
