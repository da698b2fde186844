"""Compare modules with what costs less: one table."""
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmreuse.engine.classifiers import plain
from mmreuse.engine.hooks.modularization import original_logits, prepared_batches, target_classes, task_loss
from mmreuse.engine.runners.sweep import SweepRunner
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.classifiers import ModularClassifier
from mmreuse.models.classifiers.sources import build_source
from mmreuse.modularization import (
    RunSelection,
    fit_head,
    hold_budget,
    load_mask_state,
    mask_parameters,
    mask_ratio,
    mask_saliency,
    masked_tensors,
    original_labels,
    rank_masks,
    restricted_scores,
    select_classes,
)
from mmreuse.registry import DATASETS, MODELS, RUNNERS
from mmreuse.utils.files.io import file_hash
from mmreuse.utils.files.results import result_of
from mmreuse.visualization.modularization import draw_modules

#: Networks of which only the head is fitted. Taylor's saliencies need that of the whole network, so it comes second.
FITTED = ('head only', 'Taylor', 'magnitude', 'random')


@RUNNERS.register_module()
class ModularizationRunner(SweepRunner):
    """Accuracy on the test data of modules and of their baselines, for every target problem.

    Config: ``model`` (a :class:`~mmreuse.models.ModularClassifier`), ``train_dataloader`` and ``test_dataloader`` of a
    target problem, and ``modularization`` with

    - ``targets``: names to what replaces the data set's keys: ``dict(cat=dict(target=3), ...)``,
    - ``modules``: path of a run's ``selection.pth``, with ``{target}`` for the name,
    - ``scratch``: ``dict(config=PATH, checkpoint=PATH)`` of classifiers trained on each problem from scratch, the
      checkpoint with ``{target}`` as well, by default the results of the config's runs; left out by default,
    - ``samples``: of the training data, for heads and saliencies of baselines (4096).

    Baselines: ``original``: the most likely of all classes decides, as published; ``restricted``: the most likely of
    the target classes, or whether the target is more likely than not; ``head only``: a head fitted to the whole
    network; ``Taylor``, ``magnitude`` and ``random``: as many weights as the module keeps, chosen without training,
    and a head fitted to them; ``scratch``.

    A row holds ``accuracy`` in percent and ``ratio``, the share of kept weights.
    """

    stage = 'modularization'
    keys = ('targets', 'modules', 'scratch', 'samples')
    needed = ('targets', 'modules')
    columns = ('target', 'method')
    named = {'target': 'targets'}

    def recorded_settings(self) -> dict[str, Any]:
        """Return the settings, with the content of the modules beside their targets."""
        settings = super().recorded_settings()
        for name, known in settings[self.stage]['targets'].items():
            settings[self.stage]['targets'][name] = [known, *(file_hash(path) for path in self._files(name).values())]
        return settings

    def check(self) -> None:
        """Check also that all modules exist.

        Raises:
            ArtefactError: A module is missing.
        """
        super().check()
        if self.part.get('samples', 1) < 1:
            raise ConfigError(f'{self.cfg.filename}: modularization.samples = {self.part["samples"]} is below 1.')
        missing = [str(path) for name in self.part['targets'] for path in self._files(name).values()
                   if not Path(path).is_file()]
        if missing:
            raise ArtefactError(f'{", ".join(missing)}: missing. Run the trainings that write them, or take their '
                                'targets out of the config.')

    def execute(self) -> dict[str, Any]:
        """Measure the targets that are missing in the table."""
        self.rows = self._known_rows()
        self._datasets: dict[str, Any] = {}
        for target, change in self.part['targets'].items():
            if not self.has(target=target, method='module'):
                self._measure(target, change)
        self.write()
        return self.metrics()

    def metrics(self) -> dict[str, float]:
        """Return also the means over all targets, as ``mean/<method>/<metric>``."""
        means = {}
        for method in dict.fromkeys(row['method'] for row in self.rows):
            rows = [row for row in self.rows if row['method'] == method]
            means |= {f'mean/{method}/{key}': fmean(row[key] for row in rows) for key in ('accuracy', 'ratio')}
        return {**super().metrics(), **means}

    def draw(self) -> Figure:
        """Draw the accuracy of every method on every target."""
        return draw_modules(self.rows)

    def _files(self, target: str) -> dict[str, str]:
        """Return the paths of what was trained for a target, by method."""
        files = dict(module=self.part['modules'].format(target=target))
        if self.part.get('scratch'):
            scratch = self.part['scratch']
            files['scratch'] = scratch['checkpoint'].format(target=target) if 'checkpoint' in scratch else str(
                result_of(scratch['config'], run=target))
        return files

    def _measure(self, target: str, change: Mapping[str, Any]) -> None:
        self.rows = [row for row in self.rows if row['target'] != target]
        train, test = (self._loader(name, change) for name in ('train_dataloader', 'test_dataloader'))
        kept = RunSelection.read(self._files(target)['module'])
        head = kept.head()
        model = self._model(head.linear.out_features)
        classes = target_classes(model, test)[0]
        binary = model.module_head.linear.out_features > len(classes)
        batches = list(prepared_batches(model, train, self.part.get('samples', 4096)))
        [(logits, labels)] = original_logits(model, prepared_batches(model, test))
        found = {'original': (original_labels(logits, classes, binary), 1.),
                 'restricted': (restricted_scores(logits, classes, binary).argmax(1), 1.)}
        masks = {name: mask.float() for name, mask in kept.masks().items()}
        load_mask_state(model.base, masks)
        ratio = mask_ratio(model.base)
        for method in FITTED:
            load_mask_state(model.base, {name: torch.ones_like(mask) for name, mask in masks.items()})
            if method != 'head only':
                rank_masks(model.base, self._saliency(model, method, batches))
                hold_budget(model.base, ratio)
            self._fit_head(model, classes, batches)
            found[method] = self._predict(model, model, test), mask_ratio(model.base)
        if 'scratch' in self._files(target):
            source = build_source({**self.part['scratch'], 'checkpoint': self._files(target)['scratch']}, 0)
            source.load()
            found['scratch'] = self._predict(model, source.model.to(self.device), test), 1.
        load_mask_state(model.base, masks)
        model.module_head.load_state_dict(head.state_dict())
        found['module'] = self._predict(model, model, test), ratio
        for method, (predicted, share) in found.items():
            accuracy = 100 * float((predicted == labels).double().mean())
            self.add(dict(accuracy=accuracy, ratio=share), target=target, method=method)

    def _model(self, labels: int) -> ModularClassifier:
        cfg = {'data_preprocessor': plain(self.cfg.get('data_preprocessor')), **plain(self.cfg.model),
               'out_classes': labels}
        model = MODELS.build(cfg)
        model.init_weights()
        return model.to(self.device).eval()

    def _loader(self, name: str, change: Mapping[str, Any]) -> DataLoader:
        """Return the loader of one target problem; the data set below it is read once."""
        cfg = plain(self.cfg[name])
        problem = {**cfg['dataset'], **change}
        if name not in self._datasets:
            self._datasets[name] = DATASETS.build(problem['dataset'])
        cfg['dataset'] = DATASETS.build({**problem, 'dataset': self._datasets[name]})
        return Runner.build_dataloader(cfg, seed=self.seed)

    def _saliency(self, model: ModularClassifier, method: str, batches: Sequence[dict]) -> dict[str, Tensor]:
        if method == 'Taylor':
            return mask_saliency(model.base, partial(task_loss, model), batches)
        if method == 'magnitude':
            return {name: tensor.abs() for name, tensor, _ in masked_tensors(model.base)}
        generator = torch.Generator().manual_seed(self.seed)
        return {name: torch.rand(mask.shape, generator=generator).to(mask.device)
                for name, mask in mask_parameters(model.base).items()}

    @staticmethod
    @torch.no_grad()
    def _fit_head(model: ModularClassifier, classes: Sequence[int], batches: Sequence[dict]) -> None:
        select_classes(model.module_head, classes)
        logits = torch.cat([model.base(batch['inputs']) for batch in batches])
        labels = torch.cat([sample.gt_label for batch in batches for sample in batch['data_samples']])
        fit_head(model.module_head, logits, labels)

    @torch.no_grad()
    def _predict(self, model: ModularClassifier, network: nn.Module, loader: DataLoader) -> Tensor:
        """Return labels by a network that sees images as the model does."""
        return torch.cat([network(batch['inputs']).argmax(1) for batch in prepared_batches(model, loader)])
