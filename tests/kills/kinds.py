"""The kinds of runs, each a command line on small networks of the digits."""
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
        config: In ``tests/kills/configs/``.
        arguments: More of the command line.
        resumes: Whether ``--resume`` makes the command go on; the others do that by themselves.
        sources: Whether it starts from the networks of :func:`make_sources`.
    """
    tool: str
    config: str
    arguments: Sequence[str] = ()
    resumes: bool = False
    sources: bool = True

    def command(self, again: bool) -> list[str]:
        """Return the command line behind ``python``, from the folder that :func:`prepare` has made."""
        return [f'tools/{self.tool}', str(CONFIGS / f'{self.config}.py'), '--work-dir', str(RUNS / 'run'),
                *self.arguments, *(['--resume'] if again and self.resumes else [])]


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
}


def prepare(folder: Path) -> None:
    """Make a folder that runs work in: the checkout's configs and tools, and the networks that they start from."""
    folder.mkdir(parents=True)
    for name in ('configs', 'tests', 'tools'):
        (folder / name).symlink_to(ROOT / name)


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
