"""Prune a trained classifier in many ways and measure it, before and after renormalization."""
import copy
import csv
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, set_random_seed
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.engine.runners.stage import StageRunner
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.pruning import Fisher, measure_sparsity, prune_weights
from mmreuse.pruning.scoring import check_options, estimate_fisher, needs_fisher
from mmreuse.pruning.selection import check_sparsity
from mmreuse.pruning.weights import copy_permanent, find_masks, listed_weights
from mmreuse.registry import MODELS, RENORMALIZERS, RUNNERS
from mmreuse.renormalization import apply_renormalizers
from mmreuse.utils.io import atomic_path, atomic_write, file_hash, load_checkpoint, read_json, write_json
from mmreuse.utils.methods import find_method
from mmreuse.utils.names import nearest
from mmreuse.visualization import draw_sparsity

_KEYS = ('checkpoint', 'methods', 'sparsities', 'renormalizers', 'seeds', 'modules', 'exclude')
#: What a row of the table holds beside the accuracy.
COLUMNS = ('method', 'sparsity', 'seed', 'renormalizer', 'listed_sparsity', 'whole_sparsity')


@RUNNERS.register_module()
class PruningRunner(StageRunner):
    """Sweep over pruning methods, sparsities and renormalizers.

    Config: ``model``, ``train_dataloader`` (pictures for Fishers and renormalizers, augmented as there),
    ``test_dataloader`` and ``test_evaluator``, and ``pruning`` with

    - ``checkpoint``: the trained classifier,
    - ``methods``: names to keywords of :func:`mmreuse.pruning.prune_weights`
      (``dict(saliency='woodfisher', update='summed', fisher=dict(samples=1000))``),
    - ``sparsities``,
    - ``renormalizers``: names to configs (``dict(type='reset', samples=4096)``) or lists of them; the result without
      any is always measured,
    - ``seeds`` of the pictures drawn ((0,)), ``modules`` and ``exclude``.

    Writes ``pruning/results.json``, ``results.csv`` and ``accuracy.png`` after every measurement. A sweep that was
    killed goes on where it was, and methods, sparsities and renormalizers may be added to a finished one.
    """
    stage = 'pruning'
    settings = ('model', 'pruning', 'train_dataloader', 'test_dataloader', 'test_evaluator')

    def check(self) -> None:
        """Also: methods, renormalizers and sparsities exist."""
        super().check()
        sweep = self.cfg.pruning
        unknown = [key for key in sweep if key not in _KEYS]
        if unknown:
            raise ConfigError(f"{self.cfg.filename}: pruning has no key '{unknown[0]}'. {nearest(unknown[0], _KEYS)}")
        for sparsity in sweep.sparsities:
            check_sparsity(sparsity)
        for method in sweep.methods.values():
            check_options(**_plain(method))
        for each in sweep.get('renormalizers', {}).values():
            for renormalizer in each if isinstance(each, list) else [each]:
                find_method(RENORMALIZERS, renormalizer)
        if not sweep.get('checkpoint'):
            raise ConfigError(f'{self.cfg.filename}: pruning.checkpoint must name the trained weights; pruning random '
                              'ones makes no sense. Pass --checkpoint PATH.')

    def inputs(self) -> dict[str, str]:
        """The weights."""
        return {'checkpoint': file_hash(self.cfg.pruning.checkpoint)}

    def execute(self) -> dict[str, Any]:
        """Measure what is missing in the table."""
        self.model = self._load_model()
        self.test_loader = Runner.build_dataloader(_plain(self.cfg.test_dataloader))
        self.evaluator = Evaluator(_plain(self.cfg.test_evaluator))
        self.evaluator.dataset_meta = getattr(self.test_loader.dataset, 'metainfo', None)
        self.listed = {key: self.cfg.pruning[key] for key in ('modules', 'exclude') if key in self.cfg.pruning}
        self.fishers: dict[str, Fisher] = {}
        self.rows = self._known_rows()
        if not self._has(method='dense'):
            self._add(self.model, method='dense', sparsity=0., seed=0, renormalizer='none')
        for cell in self._missing():
            self._measure(**cell)
        self.fishers.clear()
        self._write()
        return {'/'.join((row['method'], f'{row["sparsity"]:g}', f'seed{row["seed"]}', row['renormalizer'], key)): value
                for row in self.rows for key, value in row.items() if key not in COLUMNS}

    def _load_model(self) -> nn.Module:
        cfg = {'data_preprocessor': self.cfg.get('data_preprocessor'), **_plain(self.cfg.model)}
        model = MODELS.build({**cfg, 'init_cfg': None})
        state = load_checkpoint(self.cfg.pruning.checkpoint)
        state = state.get('state_dict', state)
        problem = next(iter(model.state_dict().keys() ^ state.keys()), None)
        if problem is not None:
            raise ArtefactError(f"{self.cfg.pruning.checkpoint}: does not fit the config's model: '{problem}' is in "
                                'only one of the two. Pass the checkpoint of this architecture.')
        model.load_state_dict(state)
        return copy_permanent(model.to(self.device or get_device())).eval()

    def _missing(self) -> Iterator[dict[str, Any]]:
        """One method, sparsity and seed at a time, with the renormalizers that are to be measured."""
        sweep = self.cfg.pruning
        for seed in sweep.get('seeds', (0,)):
            for method in sweep.methods:
                for sparsity in sweep.sparsities:
                    names = [name for name in ('none', *sweep.get('renormalizers', {}))
                             if not self._has(method=method, sparsity=sparsity, seed=seed, renormalizer=name)]
                    if names:
                        yield dict(method=method, sparsity=sparsity, seed=seed, renormalizers=names)

    def _measure(self, method: str, sparsity: float, seed: int, renormalizers: list[str]) -> None:
        pruned = copy.deepcopy(self.model)
        options = _plain(self.cfg.pruning.methods[method])
        options['fisher'] = self._fisher(options, seed)
        prune_weights(pruned, None, sparsity, **options, **self.listed)
        for name in renormalizers:
            model = copy.deepcopy(pruned)
            if name != 'none':
                apply_renormalizers(model, self._pictures(seed), _plain(self.cfg.pruning.renormalizers[name]),
                                    ends=[self.model])
            self._add(model, method=method, sparsity=sparsity, seed=seed, renormalizer=name)

    def _fisher(self, options: dict[str, Any], seed: int) -> Fisher | None:
        """The dense network's Fisher, which methods with the same samples share."""
        function, settings = check_options(**options)
        if not needs_fisher(function, options.get('update')):
            return None
        drawn = {key: value for key, value in settings.items() if key not in ('damp', 'block')}
        if self.fishers.get('drawn') != (drawn, seed):
            weights = listed_weights(self.model, **self.listed)
            # Gradients are large: one set of them is kept.
            self.fishers = {'drawn': (drawn, seed)}
            self.fishers['first'] = estimate_fisher(
                self.model, self._pictures(seed), weights, find_masks(weights), settings)
        key = f'{settings["damp"]}, {settings["block"]}'
        if key not in self.fishers:
            self.fishers[key] = Fisher(self.fishers['first'].gradients, settings['damp'], settings['block'])
        return self.fishers[key]

    def _pictures(self, seed: int) -> DataLoader:
        """The training pictures in the order, and with the augmentation, that a seed gives them."""
        set_random_seed(seed)
        return Runner.build_dataloader(_plain(self.cfg.train_dataloader), seed=seed)

    def _add(self, model: nn.Module, **cell: Any) -> None:
        for batch in self.test_loader:
            self.evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
        metrics = self.evaluator.evaluate(len(self.test_loader.dataset))
        sparsity = measure_sparsity(model, **self.listed)
        row = dict(cell, listed_sparsity=sparsity.listed, whole_sparsity=sparsity.whole,
                   **{key: float(value) for key, value in metrics.items()})
        self.logger.info(', '.join(f'{key} {value:.4g}' if isinstance(value, float) else str(value)
                                   for key, value in row.items()))
        self.rows.append(row)
        self._write()

    def _has(self, **cell: Any) -> bool:
        return any(all(row[key] == value for key, value in cell.items()) for row in self.rows)

    def _known_rows(self) -> list[dict[str, Any]]:
        """Rows of an earlier run on the same weights and data with the same methods of the same names."""
        path = self.folder / 'results.json'
        if self.cfg.get('overwrite', False) or not path.is_file():
            return []
        known = read_json(path, required=('rows', 'made_from'))
        now, before = self._made_from(), known['made_from']
        if any(before[key] != now[key] for key in ('inputs', 'data', 'listed', 'seed')):
            self.logger.info(f'{path}: of other weights or data; measured anew.')
            return []
        same = {key: {name for name, value in now[key].items() if before[key].get(name, value) == value}
                for key in ('methods', 'renormalizers')}
        return [row for row in known['rows'] if row['method'] in {'dense', *same['methods']}
                and row['renormalizer'] in {'none', *same['renormalizers']}]

    def _made_from(self) -> dict[str, Any]:
        sweep = self.recorded_settings()
        pruning = sweep.pop('pruning')
        return dict(inputs=self.inputs(), data=sweep, seed=self.seed, methods=pruning['methods'],
                    renormalizers=pruning.get('renormalizers', {}),
                    listed={key: pruning.get(key) for key in ('modules', 'exclude')})

    def _write(self) -> None:
        write_json(self.folder / 'results.json', dict(rows=self.rows, made_from=self._made_from()))
        with atomic_write(self.folder / 'results.csv') as file:
            writer = csv.DictWriter(file, dict.fromkeys(key for row in self.rows for key in row))
            writer.writeheader()
            writer.writerows(self.rows)
        metric = next(key for key in self.rows[0] if key not in COLUMNS)
        with atomic_path(self.folder / 'accuracy.png') as path:
            draw_sparsity(self.rows, metric).savefig(path, format='png', dpi=120)


def _plain(cfg: Any) -> Any:
    """A config's part as plain containers of its own, which what is built may change."""
    return copy.deepcopy(cfg.to_dict() if isinstance(cfg, Config) or hasattr(cfg, 'to_dict') else cfg)
