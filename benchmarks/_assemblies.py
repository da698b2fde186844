"""What may be assembled from a small zoo within a budget, and what it reaches when it is trained."""
from collections.abc import Mapping
from pathlib import Path

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

    def trained(self, name: str, network: nn.Module) -> dict[str, float]:
        """Train a network, unless that was done; return its accuracy on the splits that it was not trained on (%)."""
        path = self.folder / f'trained-{self.iterations}' / f'{name}.json'
        if not path.is_file():
            train_briefly(network, *self.data['train'], self.iterations, self.budget, self.seed)
            write_json(path, {split: 100 * accuracy(network, images) for split, images in self.data.items()
                              if split != 'train'})
        return read_json(path)

    def baselines(self, members: Mapping[str, nn.Module]) -> dict[str, dict[str, float]]:
        """Return what else the budget buys: the best member within it, and the best of the others, pruned to it."""
        images = self.data['train'][0][:512]
        ranked = sorted(members, key=lambda name: -accuracy(members[name], self.data['val']))
        found = equal_cost_networks({name: members[name] for name in ranked}, images, params=self.bounds.max_params,
                                    macs=self.bounds.max_flops)
        named = {f'{name}, {"a member within" if net is members[name] else "pruned to"} the budget': net
                 for name, net in found.items()}
        return {name: dict(params=count_params(net), macs=count_macs(net, images[:1]),
                           before=100 * accuracy(net, self.data['test']), pick=self.trained(name, net)['test'])
                for name, net in named.items()}

    def _load(self, name: str, options: dict, first: int, end: int | None) -> Labelled:
        data = self.stage.cfg.data
        self.stage.cfg[name] = {**data, 'dataset': {**data.dataset, **options}}
        view = self.stage.sample_view(end, self.preprocess, name, self.stage.settled['input_size'])
        images, labels = zip(*DataLoader(view, 256), strict=True)
        return torch.cat(images)[first:], torch.cat(labels)[first:]
