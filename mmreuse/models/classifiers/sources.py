"""The trained classifiers that a merge starts from."""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.merging.merge import canonical_form
from mmreuse.networks import is_network_file, open_network, record_of
from mmreuse.networks.bases import record_config
from mmreuse.networks.references import Reference
from mmreuse.registry import MODELS
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.paths import shipped
from mmreuse.utils.files.results import result_of
from mmreuse.utils.files.safe_loading import checkpoint_path
from mmreuse.utils.files.state_fit import load_strictly, weights_of
from mmreuse.utils.names import refuse_unknown

_KEYS = ('config', 'options', 'model', 'checkpoint', 'name', 'base', 'weights', 'network', 'of')


@dataclass(frozen=True)
class Source:
    """One trained classifier, as a config names it."""
    name: str
    model: nn.Module
    checkpoint: str | None
    preprocessor: dict | None  # config of the data preprocessor it was trained with, where that is known
    config: str | None = None  # whose run leaves the checkpoint, where none is named
    trained: bool = False  # has its weights already
    options: Mapping[str, Any] | None = None  # over the config
    plain: nn.Module | None = None  # what is loaded, where the model is its canonical form
    image: Tensor | None = None  # that both run on

    def in_canonical_form(self, image: Tensor) -> 'Source':
        """Return the source with its model in canonical form, see :func:`mmreuse.graph.canonicalize`.

        Args:
            image: One that it accepts, (1, ...).
        """
        return replace(self, model=canonical_form(self.model, image).eval(), plain=self.model, image=image)

    @property
    def is_complete(self) -> bool:
        """Return whether it is known where the weights come from."""
        return self.trained or self.checkpoint is not None or self.config is not None

    def load(self) -> None:
        """Load the checkpoint, or what the run of the source's config has left.

        Raises:
            ConfigError: A source that was described, not built, has no checkpoint.
            ArtefactError: The file cannot be read, or does not fit the architecture.
        """
        if self.trained:
            return
        if not self.is_complete:
            raise ConfigError(f"source '{self.name}' has no checkpoint: merging random weights makes no sense. Give "
                              'checkpoint=PATH of its trained weights.')
        checkpoint = self.checkpoint or result_of(self.config, self.options)
        state = weights_of(load_checkpoint(checkpoint_path(checkpoint)), checkpoint)
        load_strictly(self.model if self.plain is None else self.plain, state, checkpoint,
                      remedy=f"Check model and checkpoint of the source '{self.name}'.")
        if self.plain is not None:
            self.model.load_state_dict(canonical_form(self.plain, self.image).state_dict())


def build_source(cfg: Reference, number: int) -> Source:
    """Build a source, with random weights until it is loaded unless it is a network or the file of one.

    Args:
        cfg: A reference as :func:`mmreuse.networks.open_network` takes it, such as the path of a network file; or
            ``dict(config=PATH or model=CONFIG or module, checkpoint=PATH, name=TEXT)``, with ``config`` also
            ``options``, dotted key to value, over the file. Without a checkpoint, that which the config's own run has
            left is loaded.
        number: Its place, for a name where there is none.

    Raises:
        ConfigError: Neither or several of ``config``, ``model`` and ``base``, an unknown key, or no such file.
        ArtefactError: A network file is missing or damaged.
    """
    if not isinstance(cfg, Mapping):
        return _opened(cfg, None if isinstance(cfg, nn.Module) else Path(cfg).stem, number)
    refuse_unknown(f'source {number}', cfg, _KEYS, 'key')
    if sum(key in cfg for key in ('config', 'model', 'base', 'network')) != 1:
        raise ConfigError(f'source {number} needs either a config file or a model, or is the path of a network file.')
    kept_whole = 'config' in cfg and cfg.get('checkpoint') and is_network_file(cfg['checkpoint'])
    if kept_whole or 'base' in cfg or 'network' in cfg:
        return _opened({key: value for key, value in cfg.items() if key != 'name'}, cfg.get('name'), number)
    model, preprocessor = cfg.get('model'), None
    name = cfg.get('name') or (Path(cfg['config']).stem if 'config' in cfg else f'model {number}')
    if 'config' in cfg:
        if not shipped(cfg['config']).is_file():
            raise ConfigError(f"source '{name}': there is no config file {cfg['config']}. Check the path.")
        file = read_config(cfg['config'], cfg.get('options'))
        model, preprocessor = file.model, file.get('data_preprocessor')
    trained = isinstance(model, nn.Module) and cfg.get('checkpoint') is None
    if not isinstance(model, nn.Module):
        model = dict(model)
        preprocessor = model.pop('data_preprocessor', preprocessor)
        model = record_config(MODELS.build(model), model)
    return Source(name, model.eval(), cfg.get('checkpoint'), preprocessor, cfg.get('config'), trained,
                  cfg.get('options'))


def _opened(reference: Reference, name: str | None, number: int) -> Source:
    """Return a source that has its weights."""
    network = open_network(reference)
    preprocessing = dict(record_of(network).preprocessing)
    # What has no type is a note for readers.
    return Source(name or f'model {number}', network.eval(), None, preprocessing if 'type' in preprocessing else None,
                  trained=True)


def common_preprocessor(sources: Sequence[Source], given: Any) -> Any:
    """Return the data preprocessor that all sources share: one merged network can see its images in one way only.

    Args:
        sources: The sources; those that say nothing fit any.
        given: What the merged classifier was given; None for the sources' own.

    Raises:
        ConfigError: Two sources prepare their images differently.
    """
    known = [source for source in sources if source.preprocessor is not None]
    for source in known[1:]:
        if _of_images(source.preprocessor) != _of_images(known[0].preprocessor):
            raise ConfigError(
                f"sources '{known[0].name}' and '{source.name}' prepare their images differently "
                f'({_of_images(known[0].preprocessor)} and {_of_images(source.preprocessor)}): one merged network '
                'sees one kind of images. Train them alike.')
    return given if given is not None or not known else dict(known[0].preprocessor)


def _of_images(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that concern images, comparable."""
    return {key: list(value) if isinstance(value, (list, tuple)) else value for key, value in preprocessor.items()
            if key not in ('num_classes', 'type')}


@torch.no_grad()
def class_scorer(source: Source, image: Tensor, classes: Sequence[int],
                 num_classes: int) -> Callable[[Tensor], Tensor]:
    """Return the map from a source's outputs (B, D) to scores (B, C) of all classes, -inf for those it does not know.

    A head with ``class_scores``, such as :class:`~mmreuse.models.heads.TextEmbeddingHead`, says so itself;
    outputs for all C classes are scores; as many outputs as the task has classes are those of its classes.

    Args:
        source: The classifier.
        image: One that it accepts, (1, ...).
        classes: Ids of the source's own task.
        num_classes: C.

    Raises:
        ConfigError: The head does not know the classes of the task.
    """
    head = getattr(source.model, 'head', None)
    trained = getattr(head, 'class_ids', None)
    if trained is not None and not set(classes) <= set(trained):
        raise ConfigError(f"source '{source.name}' was trained on the classes {trained}, and its task has "
                          f'{list(classes)}. Name the tasks in the order of the sources.')
    outputs = source.model(image)
    if hasattr(head, 'class_scores'):
        score = head.class_scores
    elif outputs.shape[-1] == num_classes:
        score = _as_they_are
    elif outputs.shape[-1] == len(classes):
        score = Scatter(tuple(classes), num_classes)
    else:
        raise ConfigError(
            f"source '{source.name}' has {outputs.shape[-1]} outputs, which are neither all {num_classes} classes nor "
            f'the {len(classes)} of its task. Give num_classes, or other lists of classes.')
    found = score(outputs).shape[-1]
    if found != num_classes:
        raise ConfigError(f"source '{source.name}' scores {found} classes, but there are {num_classes}: give "
                          f'num_classes={found}.')
    return score


def _as_they_are(outputs: Tensor) -> Tensor:
    return outputs


@dataclass(frozen=True)
class Scatter:
    """Puts outputs for the classes of one task at their ids; the score of others is -inf."""
    classes: tuple[int, ...]
    num_classes: int

    def __call__(self, outputs: Tensor) -> Tensor:
        scores = outputs.new_full((len(outputs), self.num_classes), -torch.inf)
        scores[:, list(self.classes)] = outputs
        return scores
