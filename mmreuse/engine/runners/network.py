"""The stage of a job: networks in, a network and its metrics out."""
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.engine.classifiers import plain
from mmreuse.engine.configs.data_check import classes_of, labels_of
from mmreuse.engine.jobs.job import (
    MODULES,
    Classes,
    calibrated_from_random,
    check_count,
    check_weights,
    equal_cost_network,
    example,
    find_job,
)
from mmreuse.engine.reports.curves import keep_logs
from mmreuse.engine.runners.class_places import class_places, known_places, problem_among
from mmreuse.engine.runners.ensemble import Ensemble
from mmreuse.engine.runners.module_metrics import measure_modules
from mmreuse.engine.runners.network_metrics import measure_networks
from mmreuse.engine.runners.stage import StageRunner
from mmreuse.engine.runners.stage_networks import StageNetworks
from mmreuse.engine.training.train_in_folder import TRAINING
from mmreuse.errors import ConfigError
from mmreuse.models.classifiers import NetworkClassifier
from mmreuse.modularization.structured.problem import ProblemNetwork
from mmreuse.networks import modules_of, open_network, record_of, save
from mmreuse.networks.record import set_record
from mmreuse.registry import RUNNERS, Job
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.statistics.data import logits_of
from mmreuse.statistics.passes import images_of
from mmreuse.utils.files.io import state_hash
from mmreuse.utils.files.results import NETWORK_FILE

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
#: How the metrics of other networks than the stage's own begin.
BASELINES = ('sources', 'origins', 'ensemble', 'equal_cost', 'random')
#: Of what was exported, which nothing can take apart again.
_EXPORTED = ('.onnx', '.pt2')


@RUNNERS.register_module()
class NetworkRunner(StageRunner):
    """One job of :data:`mmreuse.registry.JOBS`.

    Config:

    - ``job``: ``dict(type='merge', matcher='zip', ...)``,
    - ``networks``: references of :func:`mmreuse.networks.open_network`, left out where the job needs none,
    - ``train_dataloader``: images, and labels where the job needs them; ``val_dataloader``: to choose by,
    - ``test_dataloader`` and ``test_evaluator``: for the network and for its baselines,
    - ``data_preprocessor``: how all of them see images,
    - ``controls``: whether what calibrates is done from random weights as well (True).

    Writes ``<job>/network.safetensors`` with classes, preprocessing and metrics, and ``metrics.json``: those of the
    evaluator, ``parameters``, ``nonzero``, ``macs`` and ``latency_ms`` of one image; the same as ``sources/<network>/``
    for each network that it takes, as ``origins/<network>/`` for those that these were made of in the first place, as
    ``ensemble/`` for all of the latter, and as ``equal_cost/`` for a network of the same cost that was chosen without
    the job's method, where there can be one; and as ``random/`` for what was calibrated from random weights instead,
    where the job calibrates. Of a network with modules also ``modules/<name>/``, see
    :func:`~mmreuse.engine.runners.module_metrics.measure_modules`, and the same below ``equal_cost/``.

    Args:
        cfg: The config.
        name: Of its folder; by default that of the job.
        earlier: Stages whose networks may be named in ``networks``.
    """

    distributed = False

    def __init__(self, cfg: Config, name: str | None = None,
                 earlier: Mapping[str, 'NetworkRunner'] | None = None) -> None:
        job = cfg.get('job')
        self.stage = name or (str(job.get('type')) if isinstance(job, Mapping) else 'job')
        super().__init__(cfg)
        self.earlier = dict(earlier or {})
        self.networks = StageNetworks(cfg.get('networks') or (), self.earlier)

    @property
    def settings(self) -> tuple[str, ...]:
        """Return the config keys that make the network."""
        keys = ('job', 'networks', *_LOADERS, 'test_evaluator', 'data_preprocessor', 'controls')
        return tuple(key for key in keys if self.cfg.get(key) is not None)

    @property
    def place(self) -> str:
        """Return the place of its settings, for errors."""
        return f'{self.file}: {self.stage}'

    @property
    def result(self) -> Path:
        """Return the file of the network."""
        return self.folder / NETWORK_FILE

    @cached_property
    def job(self) -> Job:
        """Return the job with its options."""
        return find_job(plain(self.cfg.get('job')), f'{self.place}: job')

    @cached_property
    def data_classes(self) -> Classes:
        """Return the classes that labels of the test data count."""
        dataset = self.test_loader.dataset
        names = classes_of(dataset)
        return [str(name) for name in names] if names else int(labels_of(dataset).max()) + 1

    @cached_property
    def given(self) -> list[Classes]:
        """Return the outputs of each network that it takes."""
        made = map(self.networks.outputs, range(len(self.networks)))
        return [self._classes_of(number) if each is None else each for number, each in enumerate(made)]

    @cached_property
    def outputs(self) -> Classes:
        """Return the outputs of the network that it makes."""
        return self.job.classes(self.job.options, self.given, self.data_classes)

    @cached_property
    def modules(self) -> dict[str, Classes]:
        """Return the outputs of the modules that go with it, by name."""
        return self.job.modules(self.job.options, self.given, self.networks.modules()) if self.given else {}

    @cached_property
    def origins(self) -> dict[str, tuple[str, Any, Classes]]:
        """Return the networks that its network was made of in the first place: label, reference and outputs of each."""
        found: dict[str, tuple[str, Any, Classes]] = {}
        for number, (label, classes) in enumerate(zip(self.networks.labels, self.given, strict=True)):
            reference, (earlier, _) = self.networks.references[number], self.networks.stage(number)
            if earlier is None:
                found[str(reference)] = label, plain(reference), classes
            else:
                found |= earlier.origins or {earlier.stage: (earlier.stage, str(earlier.result), earlier.outputs)}
        return found

    @cached_property
    def test_loader(self) -> DataLoader:
        """Return the loader of the test data; an earlier stage's where it is the same, so that it is read once."""
        for earlier in self.earlier.values():
            if plain(earlier.cfg.test_dataloader) == plain(self.cfg.test_dataloader):
                return earlier.test_loader
        return Runner.build_dataloader(plain(self.cfg.test_dataloader))

    def check(self) -> None:
        """Check job, networks, preprocessing and classes before time is spent.

        Raises:
            ConfigError: Something does not fit.
            ArtefactError: A network is missing or damaged.
        """
        try:
            self._check()
        except ConfigError as error:
            raise ConfigError(str(error) if str(error).startswith(self.place) else f'{self.place}: {error}') from error

    def _check(self) -> None:
        if missing := [key for key in ('job', 'test_dataloader', 'test_evaluator') if self.cfg.get(key) is None]:
            raise ConfigError(f'NetworkRunner needs the key {missing[0]}. See docs/en/reference/pipelines.md.')
        check_count(self.job, len(self.networks))
        for need, key in (('images', _LOADERS[0]), ('labelled', _LOADERS[0]), ('validation', _LOADERS[1])):
            if need in self.job.required and self.cfg.get(key) is None:
                raise ConfigError(f"the job '{self.job.name}' needs {need} data: give a {key}.")
        for number, reference in enumerate(self.networks.references):
            if isinstance(reference, str) and Path(reference).suffix in _EXPORTED:
                raise ConfigError(f"networks[{number}] = '{reference}' was exported and cannot be changed any more. "
                                  'Name the network file (.safetensors) that it was exported from.')
            if self.networks.stage(number)[0] is None:
                self._check_preprocessing(self.networks.open(number), self.networks.labels[number])
        class_places(self.outputs, self.data_classes, 'the network')

    def _check_preprocessing(self, network: nn.Module, label: str) -> None:
        known, own = record_of(network).preprocessing, plain(self.cfg.get('data_preprocessor')) or {}
        for key in ('mean', 'std', 'to_rgb', 'bgr_to_rgb'):
            if known and _floats(known.get(key)) != _floats(own.get(key)):
                raise ConfigError(f"'{label}' sees images with {key}={known.get(key)}, and data_preprocessor says "
                                  f'{own.get(key)}. Give the preprocessing that the networks were trained with.')

    def _classes_of(self, number: int) -> Classes:
        network = self.networks.open(number)
        if record_of(network).classes:
            return list(map(str, record_of(network).classes))
        sample = self.test_loader.collate_fn([self.test_loader.dataset[0]])
        with torch.no_grad():
            width = logits_of(network(images_of(sample, self._seen(network)))).shape[-1]
        # Labels of networks that count all classes of the data mean the same.
        return self.data_classes if width == (
            self.data_classes if isinstance(self.data_classes, int) else len(self.data_classes)) else width

    def _seen(self, network: nn.Module, places: Sequence[int | None] | None = None) -> NetworkClassifier:
        classifier = NetworkClassifier(network, plain(self.cfg.get('data_preprocessor')), places)
        return classifier.to(self.device).eval()

    def _named(self, number: int) -> nn.Module:
        """Return the same network, with the names of its classes."""
        network, classes = self.networks.open(number), self.given[number]
        return network if isinstance(classes, int) else set_record(
            network, replace(record_of(network), classes=list(classes)))

    def inputs(self) -> dict[str, str]:
        """Return the hashes of the networks' weights."""
        return {f'networks.{number}': state_hash(self.networks.open(number)) for number in range(len(self.networks))}

    def execute(self) -> dict[str, Any]:
        """Do the job, write the network, measure it and its baselines."""
        networks = [self._named(number).to(self.device) for number in range(len(self.networks))]
        check_weights(self.job, networks)
        images = labelled = validation = None
        seer = self._seen(networks[0] if networks else nn.Identity())
        if self.cfg.get('train_dataloader') is not None:
            loader = Runner.build_dataloader(plain(self.cfg.train_dataloader), seed=self.seed)
            images = CachedLoader(loader, seer)
            labelled = CachedLoader(loader, seer, labelled=True, limit=0)
        if self.cfg.get('val_dataloader') is not None:
            loader = Runner.build_dataloader(plain(self.cfg.val_dataloader))
            validation = CachedLoader(loader, seer, labelled=True)
        given = dict(images=images, labelled=labelled, validation=validation, seed=self.seed, folder=self.folder)
        network = self.job(networks, **self.job.accepted(given))
        network = network.to(self.device).eval()
        baselines = self._baselines(networks)
        others = dict(equal_cost=equal_cost_network(self.job, networks, network, **given))
        if self.cfg.get('controls', True):
            others['random'] = calibrated_from_random(self.job, networks, **given)
        modules = {name: self._measure_modules(each) for name, each in {'': network, **others}.items()}
        baselines |= {name: self._seen(other, class_places(self.outputs, self.data_classes, 'the baseline'))
                      for name, other in others.items() if other is not None and not modules[name]}
        measured = {'': self._seen(network, class_places(self.outputs, self.data_classes, 'the network')), **baselines}
        image = example([network, *networks], images).to(self.device)
        metrics = {**record_of(network).metrics,
                   **measure_networks(measured, self.test_loader, self.cfg.test_evaluator, image)}
        metrics |= {'/'.join(filter(None, (name, MODULES, module, key))): value for name, found in modules.items()
                    for module, own in found.items() for key, value in own.items()}
        self._save(network.cpu(), metrics, modules[''])
        keep_logs(self.folder / TRAINING, self.folder)
        shutil.rmtree(self.folder / TRAINING, ignore_errors=True)
        self.networks.close()
        return metrics

    def _save(self, network: nn.Module, metrics: Mapping[str, float], of_modules: Mapping[str, Any]) -> None:
        """Write the network with its metrics, and its modules with theirs."""
        own = {key: value for key, value in metrics.items() if key.split('/')[0] not in (*BASELINES, MODULES)}
        preprocessing = plain(self.cfg.get('data_preprocessor')) or None
        modules = modules_of(network)
        for name, module in modules.items():
            record = record_of(module)
            set_record(module, replace(record, metrics=of_modules.get(name, record.metrics),
                                       preprocessing=preprocessing or record.preprocessing))
        save(network, self.result, classes=None if isinstance(self.outputs, int) else list(self.outputs), metrics=own,
             preprocessing=preprocessing, modules=modules)

    def _measure_modules(self, network: nn.Module | None) -> dict[str, dict[str, float]]:
        if network is None:
            return {}
        test = CachedLoader(self.test_loader, self._seen(nn.Identity()), labelled=True, limit=0)
        return measure_modules(network, test, class_places(self.outputs, self.data_classes, 'the network'))

    def _baselines(self, networks: Sequence[nn.Module]) -> dict[str, nn.Module]:
        """Return its sources, what these were made of, and their ensemble, by the prefix of their metrics."""
        direct = {str(reference): (f'sources/{label}', network, classes) for reference, label, network, classes in zip(
            self.networks.references, self.networks.labels, networks, self.given, strict=True)}
        others = {name: (f'origins/{label}', open_network(reference).to(self.device), classes)
                  for name, (label, reference, classes) in self.origins.items() if name not in direct}
        found = {}
        for name, (prefix, network, classes) in {**direct, **others}.items():
            try:
                found[name] = prefix, self._asked(network, classes)
            except ConfigError as error:
                self.logger.info(f'{prefix}: is no baseline, {error}')
        first = [found[name][1] for name in self.origins if name in found]
        ensemble = {'ensemble': self._seen(Ensemble(first))} if len(first) > 1 else {}
        return {**dict(found.values()), **ensemble}

    def _asked(self, network: nn.Module, classes: Classes) -> NetworkClassifier:
        """Return a baseline as it is measured: beside a module it scores the labels of its problem."""
        problem = problem_among(self.outputs, classes)
        if problem is None:
            return self._seen(network, known_places(classes, self.data_classes))
        return self._seen(ProblemNetwork(network, problem), class_places(self.outputs, self.data_classes, 'a source'))


def _floats(value: Any) -> Any:
    return [float(each) for each in value] if isinstance(value, list | tuple) else value
