"""Models of timm, torchvision and mmpretrain by name, never with weights."""
from __future__ import annotations

import itertools
import math
import random
import warnings
from collections import defaultdict
from fnmatch import fnmatch
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ('timm', 'torchvision', 'mmpretrain')


def list_models(library: str, pattern: str = '*') -> dict[str, str]:
    """Names of a library's classifiers that match a glob pattern, with the family of each."""
    if library == 'timm':
        import timm
        families = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    elif library == 'torchvision':
        from torchvision import models
        families = {name: models.get_model_builder(name).__module__.rpartition('.')[2]
                    for name in models.list_models(module=models)}
    else:
        families = _mmpretrain_families()
    return {name: family for name, family in sorted(families.items()) if fnmatch(name, pattern)}


def _mmpretrain_families() -> dict[str, str]:
    """Image classifiers of mmpretrain by the type of their backbone."""
    from mmengine.registry import init_default_scope
    from mmpretrain.apis.model import ModelHub
    init_default_scope('mmpretrain')
    ModelHub._register_mmpretrain_models()
    families = {}
    for name, info in ModelHub._models_dict.items():
        results = getattr(info, 'results', None) or []
        if any(result.task == 'Image Classification' for result in results):
            try:
                model = ModelHub.get(name).config.model
            except Exception as error:  # a config that does not load is a model that cannot be built
                warnings.warn(f'{name}: {type(error).__name__}: {error}', stacklevel=2)
                families[name] = '(config does not load)'
                continue
            if model.get('type') == 'ImageClassifier':
                families[name] = str(model.backbone.type)
    return families


def smallest_of_each_family(library: str, families: dict[str, str]) -> list[str]:
    """The model with the fewest parameters of every family."""
    groups = defaultdict(list)
    for name, family in families.items():
        groups[family].append(name)
    return sorted(min(names, key=partial(count_parameters, library)) for names in groups.values())


def draw_models(library: str, names: list[str], number: int, seed: int, largest: float = math.inf) -> list[str]:
    """Draw models at random, the same ones for the same seed.

    Args:
        library: Whose models they are.
        names: Of all models to draw from.
        number: How many to draw; fewer where there are not as many.
        seed: Of the draw.
        largest: Models with more parameters are passed over.
    """
    order = random.Random(seed).sample(sorted(names), len(names))
    small = (name for name in order if largest == math.inf or count_parameters(library, name) <= largest)
    return list(itertools.islice(small, number))


def count_parameters(library: str, name: str) -> float:
    """Number of parameters, without allocating any; infinity for a model that cannot be built that way."""
    import torch
    if library == 'mmpretrain':
        from mmpretrain.apis.model import ModelHub
        return getattr(ModelHub._models_dict[name.lower()].metadata, 'parameters', None) or math.inf
    try:
        with torch.device('meta'), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return sum(parameter.numel() for parameter in build_model(library, name).parameters())
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return math.inf


def build_model(library: str, name: str) -> nn.Module:
    """Build a model with random weights.

    Raises:
        ArtefactError: The library has no model of this name.
    """
    if library == 'mmpretrain':
        from mmpretrain import get_model
        return get_model(name, pretrained=False).eval()
    from mmreuse.networks import create
    options = {'init_weights': False} if name in ('googlenet', 'inception_v3') else {}
    return create(f'{library}:{name}', **options).eval()


def input_sizes(library: str, name: str, model: nn.Module) -> list[int]:
    """Image sizes to try, the cheapest first, the model's own last."""
    if library == 'timm':
        config = model.pretrained_cfg
        size = max(config['input_size'][1:])
        return [size] if config.get('fixed_input_size') or size <= 128 else [128, size]
    if library == 'torchvision':
        return [128, 224] if name != 'inception_v3' else [224, 299]
    backbone = model.backbone
    size = getattr(backbone, 'img_size', None) or _crop_size(name) or 224
    size = max(size) if isinstance(size, (list, tuple)) else size
    return [128, size] if size > 128 else [size]


def _crop_size(name: str) -> int | None:
    """Size of the test images of a published mmpretrain config."""
    from mmpretrain.apis.model import ModelHub
    pipeline = ModelHub.get(name).config.get('test_dataloader', {}).get('dataset', {}).get('pipeline', [])
    sizes = [step.get('crop_size') or step.get('scale') for step in pipeline]
    found = [size for size in sizes if isinstance(size, int)]
    return found[-1] if found else None
