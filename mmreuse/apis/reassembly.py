"""Reassemble networks from a notebook."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from mmreuse.engine.jobs.job import find_job
from mmreuse.networks import open_network
from mmreuse.networks.references import Reference
from mmreuse.reassembly.assembly.emit import load_candidates
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.statistics.data import Data, repeatable
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.tables import Rows, Tabular


@dataclass(frozen=True)
class ReassemblyResult(Tabular):
    """Assemblies that the search found, best first.

    Attributes:
        candidates: The assemblies, with their costs and scores.
        configs: A config for each, that trains it.
    """
    candidates: tuple[Candidate, ...]
    configs: tuple[Path, ...]

    def rows(self) -> Rows:
        """Return one row per assembly that has a config."""
        return [dict(rank=rank, parameters=each.params, macs=each.flops, **each.scores)
                for rank, each in enumerate(self.candidates[:len(self.configs)], 1)]

    def notes(self) -> Sequence[str]:
        """Name the best config."""
        return [f'to train the first: {self.configs[0]}']


def reassemble(config: str | Path, images: Data, *, networks: Sequence[Reference] = (),
               work_dir: str | Path | None = None, options: Mapping[str, Any] | None = None, rank: int = 1,
               seed: int = 0) -> tuple[nn.Module, ReassemblyResult]:
    """Cut a zoo of networks into blocks and search the best assembly of them within a budget (DeRy).

    ::

        network, result = reassemble('configs/quickstart/dery_digits.py', images)
        print(result)                       # parameters, multiply-accumulates and proxy score of the best assemblies
        train(result.configs[0])            # its head, and most stitching layers, have to be trained

    Args:
        config: Config file with zoo, data, partition and budget.
        images: As the members of the zoo see them; all are used to fit the stitching layers.
        networks: Take the place of the weights that the zoo's entries name, in their order; none: those are loaded.
        work_dir: Where artefacts go; by default ``work_dirs/<config name>``. Stages that are up to date are not run
            again.
        options: Dotted key to value, over the config.
        rank: Which of the assemblies is returned, from 1.
        seed: Of the stages, and of the random head.

    Returns:
        tuple: The assembly, whose head is not trained yet; and the best assemblies that were found.

    Raises:
        ConfigError: The config does not describe a zoo, or has no such rank.
        ArtefactError: Weights are missing or do not fit.
    """
    folder = Path(work_dir or Path('work_dirs', Path(config).stem))
    loader = repeatable(images)
    job = find_job(dict(type='reassemble', config=str(config), options=dict(options or {}), rank=rank,
                        samples=sum(len(batch) for batch, in image_batches(loader, [nn.Identity()]))))
    network = job([open_network(each) for each in networks], images=loader, seed=seed, folder=folder)
    found = folder / 'dery' / 'reassembly'
    return network, ReassemblyResult(load_candidates(found / 'candidates.json'), tuple(sorted(found.glob('rank*.py'))))
