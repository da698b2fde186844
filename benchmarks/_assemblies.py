"""What may be assembled from a small zoo within a budget, and what it reaches when it is trained."""
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmreuse.engine.runners.dery import FeatureExtractionRunner, PartitionRunner, SimilarityRunner
from mmreuse.engine.runners.reassembly import ReassemblyRunner
from mmreuse.engine.studies.equal_cost import equal_cost_networks
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.fitted import FittedCache
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.halving import Budget, train_briefly
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.statistics.evaluate import accuracy
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.io import read_json, write_json

Labelled = tuple[Tensor, Tensor]  # images (N, C, H, W), normalised, and labels (N,)


class Space:
    """The assemblies of a zoo within the budget of a config, and the data of its task.

    Args:
        cfg: Of a ``DeRyRunner``; its stages before the search are run.
        folder: Where artefacts and results go.
        seed: Of stages and trainings.
        splits: By name (``train``, ``val``, ``test``), options of the config's data set, and the first of its balanced
            order that is taken and the first that is not.
        iterations: Of each training.
        budget: Batch size and rate.
        fitted: Whether trainings start from joints that are fitted.
    """
    #: The best member within the budget; the best of the others, pruned to it.
    OTHERWISE = ('member within the budget', 'member pruned to the budget')

    def __init__(self, cfg: Config, folder: Path, seed: int, splits: Mapping[str, tuple[dict, int, int | None]], *,
                 iterations: int, budget: Budget, fitted: bool) -> None:
        cfg.work_dir, cfg.cache_dir, cfg.seed = str(folder), str(folder / 'cache'), seed
        for runner in (FeatureExtractionRunner, SimilarityRunner, PartitionRunner):
            runner(cfg).run()
        self.stage, self.folder, self.seed = ReassemblyRunner(cfg), folder, seed
        self.iterations, self.budget, self.fitted = iterations, budget, fitted
        self.bounds = self.stage.settled['bounds']
        self.preprocess = next(iter(self.stage.zoo.values())).preprocess
        self.data = {name: self._load(name, *split) for name, split in splits.items()}

    def candidates(self) -> list[Candidate]:
        """Return all assemblies within the budget."""
        assemblies = self.stage.assemblies()
        paths = [tuple(map(int, path)) for path in AssemblyMILP(assemblies.lattice, self.bounds).feasible]
        return [Candidate(assemblies.genotype(path), *map(int, assemblies.total(path)[:2])) for path in paths]

    def pieces(self, fitted: bool) -> ComponentCache:
        """Return what builds candidates, their joints random or fitted on the first 256 training images."""
        facts = (self.stage.zoo, self.stage.nodes, self.stage.settled['num_classes'])
        if not fitted:
            return ComponentCache(*facts, seed=self.seed)
        return FittedCache(self.data['train'][0][:256].split(64), self.preprocess, *facts, seed=self.seed)

    def trained(self, name: str, make: Callable[[], nn.Module]) -> dict[str, float]:
        """Train a network, unless that was done; return its accuracy on the splits that it was not trained on (%)."""
        path = self.folder / f'trained-{self.iterations}' / f'{name}.json'
        if not path.is_file():
            network = make()
            train_briefly(network, *self.data['train'], self.iterations, self.budget, self.seed)
            write_json(path, {split: 100 * accuracy(network, images) for split, images in self.data.items()
                              if split != 'train'})
        return read_json(path)

    def otherwise(self, members: Mapping[str, nn.Module]) -> dict[str, tuple[str, nn.Module]]:
        """Return what else the budget buys, and of which member it is, by its name in :attr:`OTHERWISE`."""
        ranked = sorted(members, key=lambda name: -accuracy(members[name], self.data['val']))
        found = equal_cost_networks({name: members[name] for name in ranked}, self.data['train'][0][:512],
                                    params=self.bounds.max_params, macs=self.bounds.max_flops)
        return {self.OTHERWISE[net is not members[name]]: (name, net) for name, net in found.items()}

    def row(self, name: str, net: nn.Module) -> dict[str, Any]:
        """Train a member, or what was made of it; return what it costs and reaches (%)."""
        image = self.data['train'][0][:1]
        return dict(params=count_params(net), macs=count_macs(net, image),
                    before=100 * accuracy(net, self.data['test']), pick=self.trained(name, lambda: net)['test'],
                    member=name)

    def _load(self, name: str, options: dict, first: int, end: int | None) -> Labelled:
        data = self.stage.cfg.data
        self.stage.cfg[name] = {**data, 'dataset': {**data.dataset, **options}}
        view = self.stage.sample_view(end, self.preprocess, name, self.stage.settled['input_size'])
        images, labels = zip(*DataLoader(view, 256), strict=True)
        return torch.cat(images)[first:], torch.cat(labels)[first:]
