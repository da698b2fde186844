"""Shipped configs on the digits, made small enough to run in a second, and what they leave."""
import gc
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine.runner.runner
import torch
from mmengine.registry import init_default_scope
from mutations import as_lists
from trial import ROOT, tool, trial
from yapf.yapflib import yapf_api

from mmreuse.utils.configs.components import all_registries
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.configs.keys import drop_helpers

#: Trained first: other configs are made of what these leave. With options, and the folder that is looked for.
SOURCES = {
    **{f'configs/quickstart/{name}_digits.py': {} for name in (
        'resnet', 'wide-resnet', 'convnext', 'vit', 'half-a', 'half-b', 'pair')},
    'configs/mergers/sources/base_digits.py': {},
    'configs/mergers/sources/half_digits.py': {},
    'configs/zipit/sources/vit_digits-5+5_a.py': {},
    'configs/zipit/sources/vit_digits-5+5_b.py': {},
}
DERIVED = (
    'configs/quickstart/module_digits.py', 'configs/quickstart/merge_digits.py', 'configs/quickstart/curve_digits.py',
    'configs/quickstart/dery_digits.py', 'configs/mergers/ties_digits.py', 'configs/mergers/all_digits.py',
    'configs/zipit/zipit_vit_digits-5+5.py', 'configs/zipit/distill_vit_digits-5+5.py',
    'configs/pipelines/prune_digits.py', 'configs/pipelines/merge_digits.py', 'configs/pipelines/reassemble_digits.py',
    'configs/pipelines/unite_digits.py', 'configs/pipelines/zoo_digits.py')
#: Numbers of a config that cost time, and what is enough here.
_ENOUGH = dict(max_epochs=1, epochs=1, samples=48, num_samples=64, num_candidates=4, finalists=2, top=1, restarts=2,
               points=3, num_batches=2, steps=4, every=2, number=2, interval=1, val_interval=1)
_IMAGES = 160


class Workspace:
    """A folder in which the sources are trained and the derived configs have run.

    Args:
        folder: Where; what is there is used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ('configs', 'examples'):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        warm_up()

    def prepare(self) -> None:
        """Run what has not run yet.

        Raises:
            RuntimeError: A shipped config does not end well.
        """
        for path in (*SOURCES, *DERIVED):
            runs = [(path, {}), (path, dict(part=1))] if 'half_digits' in path else [(path, {})]
            for each, options in runs:
                self._run(each, options)

    def config(self, path: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what a config says, made small; to be called in the folder."""
        cfg = read_config(path, options)
        drop_helpers(cfg)
        return small(as_lists(cfg.to_dict()))

    def small(self, path: str) -> Path:
        """Return the file of a config made small."""
        return self.folder / 'small' / f'{Path(path).parent.name}_{Path(path).name}'

    def result(self, path: str) -> Path:
        """Return the folder in which a config has run; of sources, where others look for it."""
        if path not in SOURCES:
            return self.folder / 'runs' / f'{Path(path).parent.name}_{Path(path).stem}'
        return self.folder / (read_config(ROOT / path).get('work_dir') or f'work_dirs/{Path(path).stem}')

    def _run(self, path: str, options: Mapping[str, Any]) -> None:
        def call() -> None:
            values = self.config(path, options)
            write_config(self.small(path), values)
            work_dir = values.get('work_dir') or self.result(path)
            if Path(work_dir, 'metrics.json').is_file():
                return
            shutil.rmtree(work_dir, ignore_errors=True)
            tool('train.py', self.small(path), '--work-dir', work_dir)

        ending = trial(call, self.folder, timeout=1800)
        if ending.kind != 'result':
            raise RuntimeError(f'{path}: {ending.kind}: {ending.message}\n{ending.output[-2000:]}')


def warm_up() -> None:
    """Import and fill what every call needs, so that forks have it; leave out what only logs cost."""
    import mmpretrain.datasets
    import mmpretrain.evaluation
    import mmpretrain.models  # noqa: F401

    import mmreuse.apis
    import mmreuse.engine  # noqa: F401
    all_registries()
    init_default_scope('mmreuse')
    torch.set_num_threads(1)
    gc.freeze()  # else each fork copies what a collection touches
    mmengine.runner.runner.collect_env = dict
    yapf_api.FormatCode = lambda text, **style: (text, True)


def small(value: Any, key: str = '') -> Any:
    """Return the values of a config with numbers that cost time cut down."""
    if isinstance(value, dict):
        if key == 'mergers':
            return value
        cut = {name: small(each, name) for name, each in value.items()}
        if cut.get('type') == 'Digits':
            cut.setdefault('indices', _IMAGES)
        if key == 'repair' and 'distill' in cut:
            cut.update(controls=False, renormalizers=[[]])
        return cut
    if isinstance(value, list):
        return value[:2] if key == 'mergers' else [small(each, key) for each in value]
    enough = _ENOUGH.get(key)
    number = isinstance(value, int) and not isinstance(value, bool) and enough is not None
    return min(value, enough) if number else value


def write_config(path: Path, values: Mapping[str, Any]) -> None:
    """Write a Python config with all that it says, bases included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(f'{key} = {literal(value)}' for key, value in values.items()) + '\n')


def literal(value: Any) -> str:
    """Return Python that stands for a value; NaN and infinity too."""
    if isinstance(value, dict):
        return '{' + ', '.join(f'{key!r}: {literal(each)}' for key, each in value.items()) + '}'
    if isinstance(value, list | tuple):
        return '[' + ', '.join(map(literal, value)) + ']'
    return f"float('{value}')" if isinstance(value, float) else repr(value)
