"""All assemblies of a small zoo within a budget, each trained: the ground truth of scores."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmreuse.engine.runners.dery import FeatureExtractionRunner, PartitionRunner, SimilarityRunner
from mmreuse.engine.runners.reassembly import ReassemblyRunner
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.fitted import FittedCache
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.halving import Budget, train_briefly
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.statistics.evaluate import accuracy
from mmreuse.utils.files.io import read_json, write_json

Labelled = tuple[Tensor, Tensor]  # images (N, C, H, W), normalised, and labels (N,)


class Space:
    """What may be assembled from a zoo within the budget of a config, and the data of its task.

    Args:
        cfg: Of a ``DeRyRunner``; its stages before the search are run.
        folder: Where artefacts and results go.
        seed: Of stages and trainings.
        splits: By name, options of the config's data set and the number of images.
    """

    def __init__(self, cfg: Config, folder: Path, seed: int, splits: dict[str, tuple[dict, int | None]]) -> None:
        cfg.work_dir, cfg.cache_dir, cfg.seed = str(folder), str(folder / 'cache'), seed
        for runner in (FeatureExtractionRunner, SimilarityRunner, PartitionRunner):
            runner(cfg).run()
        self.stage, self.folder, self.seed = ReassemblyRunner(cfg), folder, seed
        self.preprocess = next(iter(self.stage.zoo.values())).preprocess
        self.size = self.stage.settled['input_size']
        self.data = {name: self._load(name, *split) for name, split in splits.items()}

    def candidates(self) -> list[Candidate]:
        """Return all assemblies within the budget."""
        assemblies = self.stage.assemblies()
        program = AssemblyMILP(assemblies.lattice, self.stage.settled['bounds'])
        paths = [tuple(map(int, path)) for path in program.feasible]
        return [Candidate(assemblies.genotype(path), *map(int, assemblies.total(path)[:2])) for path in paths]

    def pieces(self, fitted: bool) -> ComponentCache:
        """Return what builds candidates, their joints random or fitted on the first 256 training images."""
        facts = (self.stage.zoo, self.stage.nodes, self.stage.settled['num_classes'])
        if not fitted:
            return ComponentCache(*facts, seed=self.seed)
        return FittedCache(self.data['train'][0][:256].split(64), self.preprocess, *facts, seed=self.seed)

    def trained(self, name: str, network: nn.Module, iterations: int, budget: Budget) -> dict[str, float]:
        """Train a network, unless that was done; return its accuracy on the splits that it was not trained on (%)."""
        path = self.folder / f'trained-{iterations}' / f'{name}.json'
        if not path.is_file():
            train_briefly(network, *self.data['train'], iterations, budget, self.seed)
            write_json(path, {split: 100 * accuracy(network, images) for split, images in self.data.items()
                              if split != 'train'})
        return read_json(path)

    def _load(self, name: str, options: dict[str, Any], count: int | None) -> Labelled:
        data = self.stage.cfg.data
        self.stage.cfg[name] = {**data, 'dataset': {**data.dataset, **options}}
        view = self.stage.sample_view(count, self.preprocess, name, self.size)
        images, labels = zip(*DataLoader(view, 256), strict=True)
        return torch.cat(images), torch.cat(labels)


def batches(data: Labelled, count: int, size: int) -> Sequence[Labelled]:
    """Return the first images in batches of a size."""
    images, labels = data
    return list(zip(images[:count].split(size), labels[:count].split(size), strict=True))
