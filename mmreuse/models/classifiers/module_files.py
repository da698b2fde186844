"""Read the modules that a run has kept, and the base that they belong to."""
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.classifiers.plain import published_name
from mmreuse.models.classifiers.sources import build_source
from mmreuse.modularization import ModulePart, ReusableModule, RunSelection, load_published, verify_base
from mmreuse.utils.files.io import PathLike, load_checkpoint, state_hash


def load_base(cfg: Config) -> nn.Module:
    """Return the trained classifier that a ModularClassifier's config names, in evaluation mode.

    Raises:
        ConfigError: The config is of another model.
        ArtefactError: The checkpoint is missing, or does not fit.
    """
    model = cfg.get('model') or {}
    if 'base' not in model:
        raise ConfigError(f'{cfg.filename}: the model of the config is a {model.get("type")}, which has no base. Give '
                          'the config of a ModularClassifier.')
    init_default_scope('mmreuse')
    source = build_source(cfg.model.base, 0)
    source.load()
    return source.model


def read_modules(cfg: Config, path: PathLike, classes: Sequence[Any] = ()) -> list[ReusableModule]:
    """Read what a run has kept, or a published file.

    Args:
        cfg: Config of the run, or one with the published file's base.
        path: ``selection.pth`` in the work directory of a run, or a published ``.pth``.
        classes: Names of the labels, to be noted in the modules.

    Returns:
        list[ReusableModule]: One for each problem of the run.

    Raises:
        ConfigError, ArtefactError: As :func:`load_base`; the file is of another kind, or of another base.
    """
    base = load_base(cfg)
    state = load_checkpoint(path)
    preprocessing = cfg.get('data_preprocessor', {})
    preprocessing = preprocessing.to_dict() if hasattr(preprocessing, 'to_dict') else dict(preprocessing)
    if 'kept' not in state:
        published = load_published(path, base, rename=published_name)
        part = published.parts['problem']
        parts = {'problem': ModulePart(part.weight, part.bias, tuple(classes))}
        return [ReusableModule(published.masks, parts, published.base, preprocessing)]
    known, modules = RunSelection.of(state, path), []
    for problem, kept in enumerate(known.kept):
        if not kept:
            raise ArtefactError(f'{path}: the run has not kept a state yet. Let it run for an epoch.')
        chosen = {key: float(value) for key, value in known.chosen(problem).items()}
        head = known.head(problem).linear
        part = ModulePart(head.weight.detach(), head.bias.detach(), tuple(classes), chosen)
        modules.append(ReusableModule(known.masks(problem), {'problem': part}, known.base or state_hash(base),
                                      preprocessing))
        verify_base(modules[-1], base)
    return modules
