"""Results of a search, as configs that train and as tables.

A config file holds the whole job: the model with every block's zoo entry and the hash of its
weights, and the data, schedule and runtime of the config it starts from. Building it gives
the parameters and multiply-accumulates that were counted.
"""
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import Size
from mmreuse.reassembly.assembly.genotype import (
    Nodes,
    describe,
    genotype_from_dict,
    genotype_hash,
    genotype_to_dict,
    model_config,
)
from mmreuse.reassembly.search.search import SearchResult
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.reassembly.zoo.weights import resolve_weights
from mmreuse.reassembly.zoo.zoo import ZooEntry
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.configs.keys import drop_helpers
from mmreuse.utils.files.atomic import atomic_write
from mmreuse.utils.files.io import PathLike, file_hash, read_json, write_json
from mmreuse.utils.files.paths import shipped

#: Without these a config does not train.
NEEDED = ('train_dataloader', 'train_cfg', 'optim_wrapper')

#: Names of mmengine, mmpretrain and mmreuse are known wherever the file is run.
IMPORTS = ('mmpretrain.models', 'mmreuse.models')


def load_finetune(finetune: PathLike | Mapping[str, Any], num_classes: int) -> Config:
    """Return the config that emitted files start from, checked before a search spends time.

    Its ``model``, if any, may set what a search leaves open: training settings, options of the
    backbone (``block_fixed``, ``frozen_bn``, ...) and of the head (``loss``, ``topk``).

    Args:
        finetune: File, or the config itself.
        num_classes: Classes the search counted.

    Raises:
        ConfigError: The file does not exist or does not parse, data or schedule are missing, or the head has
            another number of classes.
    """
    if isinstance(finetune, Mapping):
        config, name = Config(deepcopy(dict(finetune))), 'finetune'
    else:
        name = str(finetune)
        if not shipped(finetune).is_file():
            raise ConfigError(f"finetune = '{name}' is not a file. Name a config of data, schedule and runtime.")
        config = read_config(name)
        drop_helpers(config)
    if missing := [key for key in NEEDED if key not in config]:
        raise ConfigError(f'{name}: lacks {", ".join(missing)}, so what is emitted could not be trained. A reassembly '
                          'needs data, schedule and runtime to start from.')
    classes = config.get('model', {}).get('head', {}).get('num_classes', num_classes)
    if classes != num_classes:
        raise ConfigError(f'{name}: model.head.num_classes = {classes}, but networks of {num_classes} classes are '
                          'searched')
    return config


def candidate_config(candidate: Candidate, zoo: Mapping[str, ZooEntry], nodes: Nodes, num_classes: int,
                     finetune: PathLike | Mapping[str, Any] | None = None, in_channels: int = 3) -> Config:
    """Return the complete config of one candidate.

    Args:
        candidate: What to build.
        zoo: Entries of the networks its blocks come from.
        nodes: Nodes of these networks.
        num_classes: Outputs of the head.
        finetune: As in :func:`load_finetune`; None gives the model alone.
        in_channels: Channels of the images.

    Raises:
        ConfigError: See :func:`load_finetune`.
        ArtefactError: Weights of a block are declared but missing.
    """
    config = Config() if finetune is None else load_finetune(finetune, num_classes)
    used = {block.model: _pinned(zoo[block.model]) for block in candidate.genotype.blocks}
    config.model = _merge_model(
        config.get('model', {}), model_config(candidate.genotype, used, nodes, num_classes, in_channels))
    config.default_scope = 'mmreuse'
    imports = config.get('custom_imports', {}).get('imports', [])
    config.custom_imports = dict(
        imports=[*imports, *(name for name in IMPORTS if name not in imports)], allow_failed_imports=False)
    return config


def emit_candidates(folder: PathLike, result: SearchResult, zoo: Mapping[str, ZooEntry], nodes: Nodes, *,
                    num_classes: int, input_size: Size, finetune: PathLike | Mapping[str, Any] | None = None,
                    top: int = 5, in_channels: int = 3) -> list[Path]:
    """Write the best candidates as configs, and tables of all beside them.

    Args:
        folder: Gets ``rank1.py``, ``rank2.py``, ...; ``candidates.json``, all that were scored, best first;
            and ``pareto.json``.
        result: What a search found.
        zoo: The searched zoo.
        nodes: Nodes of its networks.
        num_classes: Outputs of the head.
        input_size: Height and width that FLOPs were counted at.
        finetune: As in :func:`load_finetune`.
        top: Number of configs.
        in_channels: Channels of the images.

    Returns:
        list[Path]: The configs, best first.

    Raises:
        ConfigError: ``top`` is not positive; see also :func:`load_finetune`.
        ArtefactError: Weights of a block are declared but missing. Nothing is written then.
    """
    if top < 1:
        raise ConfigError(f'top = {top} configs cannot be written; ask for at least 1')
    folder = Path(folder)
    best = result.candidates[:top]
    configs = [candidate_config(c, zoo, nodes, num_classes, finetune, in_channels) for c in best]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'rank{rank}.py' for rank in range(1, len(best) + 1)]
    for rank, (path, config, candidate) in enumerate(zip(paths, configs, best, strict=True), start=1):
        with atomic_write(path) as file:
            file.write(_heading(rank, candidate, result, nodes, input_size) + config.pretty_text)
    facts = dict(proxy=result.proxy, num_classes=num_classes, input_size=list(input_size))
    names = {genotype_hash(c.genotype): path.name for c, path in zip(best, paths, strict=True)}
    write_json(folder / 'candidates.json', dict(
        **facts, evaluations=result.evaluations, feasible=result.feasible, exhaustive=result.exhaustive,
        candidates=[_row(c, nodes, names) for c in result.candidates],
        screened=[_row(c, nodes, names) for c in result.screened]))
    write_json(folder / 'pareto.json', dict(**facts, candidates=[_row(c, nodes, names) for c in result.pareto]))
    return paths


def load_candidates(path: PathLike) -> tuple[Candidate, ...]:
    """Read the candidates of a ``candidates.json`` or ``pareto.json``, best first.

    Raises:
        ArtefactError: The file is missing, truncated or of another kind.
    """
    try:
        return tuple(
            Candidate(genotype_from_dict(row['genotype']), row['params'], row['flops'],
                      {proxy: math.nan if score is None else score for proxy, score in row['scores'].items()},
                      row['latency']) for row in read_json(path, required=('candidates',))['candidates'])
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f'{path}: is not a table of candidates ({error!r}). Run the reassembly stage again.'
                            ) from error


def _pinned(entry: ZooEntry) -> ZooEntry:
    """Return the entry with the hash of the weights it has now, so that others in their place are refused later."""
    if entry.weights is None or entry.weights_hash is not None:
        return entry
    try:
        return replace(entry, weights_hash=file_hash(resolve_weights(entry)))
    except ArtefactError as error:
        raise ArtefactError(f'the config of a block of {entry.key} would not build: {error}') from error


def _merge_model(base: Mapping[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Return the searched model with what ``base`` says about training it; what was searched wins."""
    backbone = {**base.get('backbone', {}), **model['backbone']}
    head = {**model['head'], **base.get('head', {}),
            **{key: model['head'][key] for key in ('type', 'num_classes', 'in_channels')}}
    return {**base, **model, 'backbone': backbone, 'head': head}


def _heading(rank: int, candidate: Candidate, result: SearchResult, nodes: Nodes, input_size: Size) -> str:
    """Comment at the top of a config: what it is and what was counted."""
    score = candidate.scores[result.proxy]
    return (f'# Rank {rank} by {result.proxy} = {score:.6g}: {candidate.params:,} parameters, {candidate.flops:,} '
            f'multiply-accumulates at {input_size[0]}x{input_size[1]}.\n# {describe(candidate.genotype, nodes)}\n')


def _row(candidate: Candidate, nodes: Nodes, names: Mapping[str, str]) -> dict[str, Any]:
    name = genotype_hash(candidate.genotype)
    return dict(
        id=name, config=names.get(name), description=describe(candidate.genotype, nodes), params=candidate.params,
        flops=candidate.flops, latency=candidate.latency,
        scores={proxy: score if score == score else None for proxy, score in candidate.scores.items()},
        genotype=genotype_to_dict(candidate.genotype))
