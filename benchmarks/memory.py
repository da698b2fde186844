"""Memory that stages state before they start, beside what they take.

    python benchmarks/memory.py --out benchmarks/results/memory.json

Each case runs in a process of its own. ``taken_mb`` is the most that the process has in memory during the stage
beyond what it had before, weights and images given to it left out, and pages of files, which the system drops where
memory is short; ``stated_mb`` is what the stage itself logs. Networks have random weights: memory does not depend on
them. Where a stage states several needs, what it keeps for one is there beside the next, and they are added. Cases
without ``taken_mb`` are larger than this machine or than an hour; their stage was started with less
memory than it needs, and says in its refusal how much that is.
"""
import argparse
import ctypes
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATED = re.compile(r'([\w ]+): needs about ([\d.]+) (MiB|GiB)')
_MB = 1e6
#: More than any machine has: the stage is stopped at its own statement.
_ENDLESS = 1e18


def resnet20() -> Any:
    from mmreuse.models import CifarResNet
    return CifarResNet(20, num_classes=10)


def torchvision_net(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import torchvision
        return getattr(torchvision.models, name)(weights=None)
    return make


def fisher(make: Callable[[], Any], side: int, samples: int, chunk: int = 64) -> Callable[[], None]:
    """Gradients of single samples by all weights."""
    import torch

    from mmreuse.pruning.fisher.gradients import per_sample_gradients
    from mmreuse.pruning.weights import listed_weights
    model = make().eval()
    batches = [(torch.randn(chunk, 3, side, side), torch.randint(10, (chunk,)))] * -(-samples // chunk)
    return lambda: per_sample_gradients(model, batches, listed_weights(model), samples=samples, chunk=chunk)


def calibration(make: Callable[[], Any], side: int, samples: int) -> Callable[[], None]:
    """Refit a copy of a network to it; a fixed ridge."""
    import torch

    from mmreuse.calibration import Source, calibrate
    from mmreuse.graph import copy_model
    model = make().eval()
    twin = copy_model(model)
    images = [torch.randn(16, 3, side, side) for _ in range(samples // 16)]
    limit = _ENDLESS if refused() else None
    return lambda: calibrate(twin, [Source(model)], images, ridge=1e-3, memory_limit=limit)


def _zoo(stage: str, config: Callable[[Path], dict[str, Any]]) -> Callable[[], None]:
    """A stage on a zoo, after those before it."""
    from mmengine.config import Config

    from mmreuse.engine.runners import FeatureExtractionRunner, SimilarityRunner
    folder = Path(tempfile.mkdtemp())
    cfg = Config(dict(config(folder), work_dir=str(folder / 'work'), cache_dir=str(folder / 'cache'), device='cpu',
                      features=dict(num_samples=2048, minibatch=256), similarity=dict(type='cka')))
    runners = dict(features=FeatureExtractionRunner, similarity=SimilarityRunner)
    if stage == 'similarity':
        FeatureExtractionRunner(cfg).run()
    runner = runners[stage](cfg)
    runner.check()
    runner.num_samples('data', cfg.features.num_samples)  # opens the data set
    return runner.run


def cifar_zoo(folder: Path) -> dict[str, Any]:
    from mmengine.config import Config
    cfg = Config.fromfile('configs/dery/cifar_resnets/dery_cifar-resnets_cifar10-jpeg.py')
    return dict(zoo=cfg.zoo, data=cfg.data)


def imagenet_zoo(folder: Path) -> dict[str, Any]:
    import torch

    from mmreuse.utils.files.io import save_tensors
    zoo = []
    for name in ('resnet50', 'vit_b_16'):
        torch.manual_seed(0)
        save_tensors(folder / f'{name}.safetensors', torchvision_net(name)().state_dict(), {})
        zoo.append(dict(key=name, library='torchvision', model=name, weights=str(folder / f'{name}.safetensors')))
    root = Path(os.environ.get('MMREUSE_DATA_ROOT', 'data'))
    return dict(zoo=zoo, data=dict(dataset=dict(
        type='mmpretrain.CustomDataset', data_root=str(root), data_prefix='imagenet1000_sample', with_label=False)))


def features(config: Callable[[Path], dict[str, Any]]) -> Callable[[], None]:
    return _zoo('features', config)


def similarity(config: Callable[[Path], dict[str, Any]]) -> Callable[[], None]:
    return _zoo('similarity', config)


def sweep() -> Callable[[], None]:
    """WoodFisher and magnitudes at one sparsity, renormalized, as configs/woodfisher has them for a ResNet-20."""
    import mmpretrain.models  # noqa: F401 (fills the registry)
    import torch
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    from mmreuse.engine.runners import PruningRunner
    from mmreuse.registry import MODELS
    DefaultScope.get_instance('memory', scope_name='mmreuse')
    folder = Path(tempfile.mkdtemp())
    cfg = Config.fromfile('configs/woodfisher/resnet20_cifar10-jpeg.py')
    cfg.model.pop('init_cfg')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'net.pth')
    cfg.work_dir, cfg.device = str(folder / 'work'), 'cpu'
    cfg.pruning = dict(
        checkpoint=str(folder / 'net.pth'), sparsities=[0.9],
        methods={name: cfg.pruning.methods[name] for name in ('magnitude, global', 'WoodFisher, global')},
        renormalizers=dict(reset=dict(type='reset', samples=1000), calibrate=dict(type='calibrate', samples=1000)))
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.num_workers = 0
    cfg.test_dataloader.dataset.indices = 512
    return PruningRunner(cfg).run


#: Name, whether it is run or only stated, how it is prepared.
CASES: dict[str, tuple[bool, Callable[[], Callable[[], None]]]] = {
    'features, zoo of four CIFAR ResNets, 2048 images': (True, lambda: features(cifar_zoo)),
    'similarity, zoo of four CIFAR ResNets': (True, lambda: similarity(cifar_zoo)),
    'Fisher gradients, ResNet-20, 1000 images': (True, lambda: fisher(resnet20, 32, 1000)),
    'pruning sweep, ResNet-20, Fisher of 1000 images': (True, sweep),
    'calibration, ResNet-20, 1024 images': (True, lambda: calibration(resnet20, 32, 1024)),
    'features, ResNet-50 and ViT-B/16 at 224 px, 1000 images': (False, lambda: features(imagenet_zoo)),
    'Fisher gradients, ResNet-50 at 64 px, 16 images': (
        True, lambda: fisher(torchvision_net('resnet50'), 64, 16, 4)),
    'Fisher gradients, ResNet-50 at 224 px, 1000 images': (
        False, lambda: fisher(torchvision_net('resnet50'), 224, 1000, 2)),
    'Fisher gradients, ViT-B/16 at 224 px, 4 images': (
        True, lambda: fisher(torchvision_net('vit_b_16'), 224, 4, 2)),
    'Fisher gradients, ViT-B/16 at 224 px, 1000 images': (
        False, lambda: fisher(torchvision_net('vit_b_16'), 224, 1000, 2)),
    'calibration, ResNet-50 at 64 px, 64 images': (
        True, lambda: calibration(torchvision_net('resnet50'), 64, 64)),
    'calibration, ResNet-50 at 224 px, 512 images': (
        False, lambda: calibration(torchvision_net('resnet50'), 224, 512)),
    'calibration, ViT-B/16 at 224 px, 512 images': (
        False, lambda: calibration(torchvision_net('vit_b_16'), 224, 512)),
}


def refused() -> bool:
    """Return whether this process is to stop at the statement of what it needs."""
    return not CASES[sys.argv[-1]][0]


def run_case(name: str) -> None:
    """Run one case, and print the most memory that it took."""
    import torch

    from mmreuse.errors import ConfigError
    from mmreuse.utils.cost.memory import limit_memory
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    run = CASES[name][1]()
    if refused():
        limit_memory(1)
        try:
            run()
        except ConfigError as error:
            print(error)
        return
    print('STARTS', flush=True)
    with Peak() as peak:
        run()
    print('TAKEN', peak.taken)


class Peak:
    """The most memory of this process, looked at every few milliseconds, beyond what it had; without pages of files."""

    def __enter__(self) -> 'Peak':
        ctypes.CDLL('libc.so.6').malloc_trim(0)  # what was freed before shall not serve what comes
        self.before = self.most = self._anonymous()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()

    @property
    def taken(self) -> int:
        return self.most - self.before

    def _look(self) -> None:
        while not self._done.wait(0.003):
            self.most = max(self.most, self._anonymous())

    @staticmethod
    def _anonymous() -> int:
        return 1024 * sum(map(int, re.findall(r'Rss(?:Anon|Shmem):\s+(\d+) kB', Path('/proc/self/status').read_text())))


def measure(name: str) -> dict[str, float]:
    """Run one case in a process of its own."""
    done = subprocess.run([sys.executable, __file__, '--case', name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode:
        raise SystemExit(f'{name}:\n{done.stdout}')
    said: dict[str, float] = {}
    for what, number, unit in _STATED.findall(done.stdout.rpartition('STARTS')[2]):
        said[what] = max(said.get(what, 0.), float(number) * (2**30 if unit == 'GiB' else 2**20))
    taken = re.search(r'^TAKEN (\d+)$', done.stdout, re.MULTILINE)
    result = dict(stated_mb=sum(said.values()) / _MB) if said else {}
    return result | (dict(taken_mb=int(taken[1]) / _MB) if taken else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', help='write the results to this JSON file as well')
    parser.add_argument('--case', choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        run_case(args.case)
        return
    from _common import write
    results = {}
    for name in CASES:
        results[name] = measure(name)
        print(name, json.dumps(results[name]), flush=True)
    write(args.out, results)


if __name__ == '__main__':
    main()
