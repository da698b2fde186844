"""Make one network of blocks of several."""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmreuse.engine.configs.options import load_config
from mmreuse.engine.jobs.job import Classes, example
from mmreuse.errors import ConfigError
from mmreuse.models.backbones.dery import record_assembly
from mmreuse.networks import save
from mmreuse.networks.bases import record_config
from mmreuse.reassembly.assembly.stitching_init import stitch_by_least_squares
from mmreuse.reassembly.zoo.zoo import parse_zoo
from mmreuse.registry import JOBS, MODELS
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.configs.keys import drop_helpers


def _check(options: Mapping[str, Any]) -> None:
    cfg = load_config(options['config'], options.get('options'))
    if missing := [key for key in ('zoo', 'data', 'partition', 'reassembly') if key not in cfg]:
        raise ConfigError(f"{options['config']}: has no {missing[0]}. Name a config of the DeRyRunner.")
    parse_zoo(cfg.zoo)
    if not 1 <= options.get('rank', 1) <= cfg.reassembly.get('top', 5):
        raise ConfigError(f"rank = {options['rank']}: the config writes reassembly.top = "
                          f"{cfg.reassembly.get('top', 5)} networks, counted from 1.")


def _classes(options: Mapping[str, Any], given: Sequence[Classes], data: Classes) -> Classes:
    cfg = load_config(options['config'], options.get('options'))
    if given and len(given) != len(cfg.zoo):
        raise ConfigError(f"{options['config']}: the zoo has {len(cfg.zoo)} entries, and there are {len(given)} "
                          'networks: name one for each, in their order, or none.')
    count = cfg.reassembly.get('num_classes', 1000)
    size = data if isinstance(data, int) else len(data)
    return data if count == size else count


@JOBS.register_module(networks=(0, None), needs=('images', 'seed', 'folder'), classes=_classes, check=_check,
                      equal_cost='its stitching layers are not trained yet; compare after fine-tuning')
def reassemble(networks: Sequence[nn.Module], *, images: Iterable, seed: int = 0, folder: Path, config: str,
               options: Mapping[str, Any] | None = None, rank: int = 1, samples: int | None = 512) -> nn.Module:
    """Run the stages of deep model reassembly and build a network that they found; its head is not trained yet.

    Args:
        networks: Take the place of the weights that the zoo's entries name, in their order; none: those are loaded.
        images: For the stitching layers, as the members of the zoo see them.
        seed: Of the stages, and of the random head.
        folder: The stages work in ``dery`` below it; those that are up to date are not run again.
        config: Of the :class:`~mmreuse.engine.runners.DeRyRunner`.
        options: Dotted key to value, over the config.
        rank: Which of the networks that were found, from 1.
        samples: Images by which stitching layers are fitted; None: they stay random.
    """
    from mmreuse.engine.runners.dery import DeRyRunner
    cfg = load_config(config, options)
    drop_helpers(cfg)
    cfg.work_dir, cfg.seed = str(folder / 'dery'), seed
    for number, network in enumerate(networks):
        path = folder / 'members' / f'{cfg.zoo[number].key}.safetensors'
        save(network, path)
        cfg.zoo[number].weights = str(path.resolve())
    DeRyRunner(cfg).run()
    found = read_config(str(folder / 'dery' / 'reassembly' / f'rank{rank}.py'))
    return _build(found, cfg, networks, images, seed, samples)


def _build(found: Config, cfg: Config, networks: Sequence[nn.Module], images: Iterable, seed: int,
           samples: int | None) -> nn.Module:
    """Build what was found; the structure that is noted names no weights."""
    model = found.model.to_dict()
    torch.manual_seed(seed)
    network = MODELS.build({**model, 'init_cfg': None})
    network.init_weights()
    if samples is not None:
        preprocess = next(iter(parse_zoo(cfg.zoo).values())).preprocess
        stitch_by_least_squares(network.backbone, images, preprocess, samples=samples)
    return record_assembly(record_config(network, model).eval(), example([network], images))
