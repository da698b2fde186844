"""Diagnose a merge or a pruned network from a config and checkpoints."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.diagnostics import (
    compare_merges,
    envelope,
    feature_magnitudes,
    normalised,
    output_statistics,
    parameter_magnitudes,
    rescaled,
    running_statistics,
    variance_ratio,
)
from mmreuse.engine.classifiers import load_classifier, training_images
from mmreuse.engine.run_config import configured
from mmreuse.errors import ConfigError, SpaceError
from mmreuse.graph import copy_model
from mmreuse.merging import align, interpolate
from mmreuse.renormalization import reset
from mmreuse.statistics.bn import measured_norms
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.utils.configs.methods import MethodLike
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import file_hash, write_json
from mmreuse.utils.names import nearest
from mmreuse.visualization import draw_layers, draw_outputs, draw_running_statistics, draw_vanishing

PathLike = str | Path


@dataclass(frozen=True)
class Subject:
    """Networks to diagnose, the end models that they were made of, and data."""

    made: dict[str, nn.Module]  # by label: the midpoint or the pruned network, and after RESET
    ends: dict[str, nn.Module]
    images: Iterable            # of the training loader, for RESET
    test: DataLoader            # for measuring

    @property
    def models(self) -> dict[str, nn.Module]:
        """All of them, the made ones first."""
        return {**self.made, **self.ends}


def load_subject(config: PathLike, checkpoints: Sequence[PathLike], *, pruned: PathLike | None = None,
                 matcher: MethodLike | None = None, reset_norms: bool = False, samples: int | None = None,
                 options: Mapping[str, Any] | None = None) -> Subject:
    """Load end models and make the network to be diagnosed: their midpoint, or what was pruned.

    Args:
        config: Config file with the classifier (``model``, or ``model.classifier`` of a pair), ``train_dataloader`` for
            matching and RESET, and ``test_dataloader``.
        checkpoints: Of two or more end models; of the dense one where there is a pruned one.
        pruned: Checkpoint of the pruned network.
        matcher: Aligns the end models first, see :func:`mmreuse.merging.align`.
        reset_norms: Also make the network after RESET.
        samples: How many training images matching and RESET use; None for all.
        options: Dotted key to value, over the config.

    Raises:
        ConfigError: The number of checkpoints does not fit, options contradict each other, or the config lacks a key.
        ArtefactError: A checkpoint cannot be read or is of another architecture.
        SpaceError: The models cannot be aligned, or there is nothing to reset.
    """
    if pruned is not None and (len(checkpoints) != 1 or matcher is not None):
        raise ConfigError('a pruned network is compared with the one checkpoint of the dense one, and nothing is '
                          'matched. Give that checkpoint alone, without a matcher.')
    if pruned is None and len(checkpoints) < 2:
        raise ConfigError('a merge has two end models or more. Give their checkpoints, or that of a pruned network.')
    cfg = configured(config, options=options)
    missing = [key for key in ('model', 'train_dataloader', 'test_dataloader') if cfg.get(key) is None]
    if missing:
        raise ConfigError(f'{config}: lacks {", ".join(missing)}, without which nothing can be measured.')
    ends = [load_classifier(cfg, path) for path in checkpoints]
    images = CachedLoader(training_images(cfg, int(cfg.get('seed') or 0)), ends[0])
    test = Runner.build_dataloader(cfg.test_dataloader.to_dict())
    if pruned is not None:
        name, network = 'pruned', load_classifier(cfg, pruned)
    else:
        if matcher is not None:
            ends = list(align(ends, images, matcher, inputs=torch.zeros_like(next(iter(images))[:1]),
                              samples=samples))
        name, network = 'midpoint', interpolate(ends, [1 / len(ends)] * len(ends))
    made = {name: network}
    if reset_norms:
        if not measured_norms(network):
            raise SpaceError(f'{config}: the network has no batch norm with running statistics to reset.')
        made[f'{name}, reset'] = copy_model(network)
        reset(made[f'{name}, reset'], images, samples=samples)
    labels = ['dense'] if pruned is not None else [f'end {number}' for number in range(1, len(ends) + 1)]
    return Subject(made, dict(zip(labels, ends, strict=True)), images, test)


# -- studies: from a subject to a table, all values, and figures by the end of their names -----------


Found = tuple[list[dict[str, Any]], dict[str, Any], dict[str, Figure]]


def vanishing(subject: Subject, samples: int | None = None, **options: Any) -> Found:
    """Return the sizes of g and h at every layer; ``**options`` of :func:`mmreuse.diagnostics.feature_magnitudes`."""
    sizes = feature_magnitudes(list(subject.models.values()), subject.test, samples=samples, **options)
    count = len(subject.made)
    left = {name: normalised(own, sizes.induced[count:])
            for name, own in zip(subject.made, sizes.induced, strict=False)}
    bounds = {name: envelope(values) for name, values in left.items()}
    panels = {title: dict(zip(subject.models, values.tolist(), strict=True)) for title, values in (
        ('input-induced feature g', sizes.induced), ('offset h', sizes.offset))}
    values = dict(models=list(subject.models), magnitudes=asdict(sizes), normalised=left, envelope=bounds)
    return (_by_layer(sizes.layers, left), values,
            {'': draw_vanishing(left, bounds), '_magnitudes': draw_layers(panels, sizes.layers)})


def variance(subject: Subject, samples: int | None = None) -> Found:
    """Variance of every layer over that of the end models."""
    found = {name: variance_ratio(model, list(subject.ends.values()), subject.test, samples=samples)
             for name, model in subject.made.items()}
    layers = next(iter(found.values())).layers
    ratios = {name: each.ratio for name, each in found.items()}
    return (_by_layer(layers, ratios), {name: asdict(each) for name, each in found.items()},
            {'': draw_layers({'variance over that of the ends': ratios}, layers)})


def outputs(subject: Subject, samples: int | None = None) -> Found:
    """Return the mean and spread of the logits of every class beside f(0)."""
    found = output_statistics(list(subject.models.values()), subject.test, samples=samples)
    rows = [dict(network=name, deviation=found.deviation[number].mean().item(),
                 mean_to_zero=(found.mean[number] - found.zero[number]).abs().mean().item())
            for number, name in enumerate(subject.models)]
    parts = [dict(zip(subject.models, values.tolist(), strict=True))
             for values in (found.mean, found.deviation, found.zero)]
    return rows, dict(models=list(subject.models), **asdict(found)), {'': draw_outputs(*parts)}


def running(subject: Subject, samples: int | None = None) -> Found:
    """Return the running statistics of batch norms, as they are and as RESET would set them."""
    norms = running_statistics(next(iter(subject.made.values())), subject.images, samples=samples)
    rows = [dict(layer=norm.layer, mean=norm.mean.abs().mean().item(), reset_mean=norm.reset_mean.abs().mean().item(),
                 variance=norm.variance.mean().item(), reset_variance=norm.reset_variance.mean().item(),
                 variance_ratio=norm.variance_ratio) for norm in norms]
    return rows, {norm.layer: asdict(norm) for norm in norms}, {'': draw_running_statistics(norms)}


def magnitudes(subject: Subject, samples: int | None = None) -> Found:
    """Return mean |W| and |b| of every layer; in a chain without norms also g rescaled by the weights' loss."""
    models = {name: subject.models[name] for name in (next(iter(subject.made)), *subject.ends)}
    found = parameter_magnitudes(list(models.values()))
    panels = {title: dict(zip(models, values.tolist(), strict=True))
              for title, values in (('mean |W|', found.weight), ('mean |b|', found.bias))}
    values = dict(models=list(models), **asdict(found))
    sizes = feature_magnitudes(list(models.values()), subject.test, samples=samples)
    if sizes.layers == found.layers:
        values['rescaled'] = rescaled(sizes, found)
        panels['input-induced feature g'] = dict(zip(models, sizes.induced.tolist(), strict=True)) | {
            'rescaled': values['rescaled'].tolist()}
    return _by_layer(found.layers, panels['mean |W|']), values, {'': draw_layers(panels, found.layers)}


def residual(subjects: Mapping[str, Subject], samples: int | None = None) -> Found:
    """Merges of networks with and without residual connections, side by side: accuracy, and what is left of g and h."""
    found = {}
    for label, subject in subjects.items():
        cases = {f'{label}, {name}': (model, list(subject.ends.values())) for name, model in subject.made.items()}
        found |= compare_merges(cases, subject.test, samples=samples)
    rows = [dict(nets=label, accuracy=100 * each.accuracy, ends=100 * sum(each.ends) / len(each.ends),
                 g_left=each.induced[-1].item(), h_left=each.offset[-1].item()) for label, each in found.items()]
    return (rows, {label: asdict(each) for label, each in found.items()},
            {'': draw_vanishing({label: each.induced for label, each in found.items()})})


def _by_layer(layers: Sequence[str], lines: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    return [dict(layer=layer, **{name: float(values[number]) for name, values in lines.items()})
            for number, layer in enumerate(layers)]


STUDIES: dict[str, Callable[..., Found]] = {
    'vanishing': vanishing, 'variance': variance, 'outputs': outputs, 'running-statistics': running,
    'magnitudes': magnitudes, 'residual': residual}


def diagnose(study: str, config: PathLike, checkpoints: Sequence[PathLike], out: PathLike, *,
             plain: Sequence[PathLike] | None = None, samples: int | None = None, pruned: PathLike | None = None,
             matcher: MethodLike | None = None, reset_norms: bool = False, options: Mapping[str, Any] | None = None,
             **settings: Any) -> list[dict[str, Any]]:
    """Diagnose why a merged or pruned network does badly; ``<study>.json`` and figures appear in ``out``.

    ::

        diagnose('vanishing', 'configs/vanishing_feature/vgg11-bn_pair_cifar10-jpeg.py',
                 ['net1_epoch_40.pth', 'net2_epoch_40.pth'], 'work_dirs/diagnostics', matcher='weight_matching')

    Args:
        study: One of ``STUDIES``.
        config: As :func:`load_subject` takes it, like the arguments that are not named here.
        checkpoints: Likewise; for ``'residual'`` of the networks with residual connections.
        out: Folder.
        plain: For ``'residual'``: config, and checkpoints, of networks without them.
        samples: How many images are measured, and used for matching and RESET; None for all.
        **settings: Of ``'vanishing'``: ``metric``, ``norm``, ``offset``.

    Returns:
        list[dict]: The rows of a table.

    Raises:
        ConfigError: There is no such study, or arguments do not fit it.
        MMReuseError: As :func:`load_subject`, and as the studies raise it.
    """
    if study not in STUDIES:
        raise ConfigError(f"there is no study '{study}'. {nearest(study, STUDIES)}")
    if (plain is not None) != (study == 'residual'):
        raise ConfigError("study 'residual', and no other, compares with networks without residual connections: give "
                          'it their config and checkpoints.')
    making = dict(pruned=pruned, matcher=matcher, reset_norms=reset_norms, samples=samples, options=options)
    subject = load_subject(config, checkpoints, **making)
    if plain is not None:
        subject = dict(plain=load_subject(plain[0], plain[1:], **making), residual=subject)
    rows, values, figures = STUDIES[study](subject, samples=samples, **settings)
    files = [*checkpoints, *(plain or ())[1:], *([] if pruned is None else [pruned])]
    made_from = dict(config=str(config), plain_config=None if plain is None else str(plain[0]), samples=samples,
                     matcher=matcher, options=options, settings=settings,
                     checkpoints={str(path): file_hash(path) for path in files})
    write_json(Path(out) / f'{study}.json', dict(rows=rows, values=values, made_from=made_from))
    for end, figure in figures.items():
        with atomic_path(Path(out) / f'{study}{end}.png') as path:
            figure.savefig(path, format='png', dpi=120)
    return rows
