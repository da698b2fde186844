"""Remove channels of a trained classifier in several ways and measure what is left: accuracy, size, latency."""
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from mmreuse.calibration import Source
from mmreuse.deployment import compare_latency
from mmreuse.deployment.latency_budget import Budget
from mmreuse.engine.classifiers import plain
from mmreuse.engine.runners.sweeps.pruning import PruningSweep
from mmreuse.errors import ConfigError
from mmreuse.graph import transform
from mmreuse.models.classifiers import NarrowClassifier, NetworkClassifier
from mmreuse.networks import is_network_file, record_change, save
from mmreuse.pruning.channels.channels import check_renormalizer, dense_targets, select_channels
from mmreuse.registry import ENGINES, MODELS, RUNNERS, Method
from mmreuse.utils.configs.methods import find_method
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.visualization import draw_pruning


@RUNNERS.register_module()
class ChannelPruningRunner(PruningSweep):
    """Sweep over structured pruning methods, targets and renormalizers.

    Config: as for :class:`~mmreuse.engine.runners.sweep.SweepRunner`, where ``model`` is a
    :class:`~mmreuse.models.classifiers.NarrowClassifier`, and ``channels`` as
    :class:`~mmreuse.engine.runners.sweeps.pruning.PruningSweep` says, with methods for
    :func:`mmreuse.pruning.prune_channels`
    (``dict(saliency='magnitude', multiple=8)``; with ``cost='latency', engine='onnxruntime', batch_size=1`` targets are
    shares of the milliseconds there), ``targets``, ``engines`` on which latency is measured (none) and
    ``batch_sizes`` ((1,)), one thread each.

    Every network is written as ``<method>_<target>_<seed>_<renormalizer>.pth``, a checkpoint for a
    ``NarrowClassifier``; or, where ``checkpoint`` is a network file, as such a file.
    """

    stage = 'channels'
    keys = ('checkpoint', 'methods', 'targets', 'renormalizers', 'seeds', 'engines', 'batch_sizes')
    level, levels, untouched = 'target', 'targets', 1.
    budget = ('cost', 'engine', 'batch_size', 'threads')
    keywords = (*budget, 'saliency', 'multiple', 'minimum', 'relative', 'spaces', 'exclude', 'fisher')
    description = ('macs', 'params')

    def check(self) -> None:
        """Check also that the model can be narrowed, renormalizers do not compare layers, and engines exist."""
        super().check()
        model = None if is_network_file(self.part['checkpoint']) else MODELS.build(plain(self.cfg.model))
        if model is not None and not isinstance(model, NarrowClassifier):
            raise ConfigError(f"{self.cfg.filename}: model.type = '{self.cfg.model.type}' cannot load narrower nets. "
                              "Take 'NarrowClassifier' with input_size=(C, H, W) and the other keys as they are, or "
                              'the network file of a network as the checkpoint.')
        for engine in self.part.get('engines', ()):
            find_method(ENGINES, engine)
        for methods in self.renormalizers().values():
            for method in methods:
                check_renormalizer(method)

    def check_level(self, value: float) -> None:
        """Targets are shares."""
        if not 0 < value < 1:
            raise ConfigError(f'{self.cfg.filename}: target {value} is not in (0, 1). It is the share of the dense '
                              "network's cost that is left, e.g. 0.5.")

    def check_network(self) -> None:
        """Check nothing but what tracing finds."""

    def prune(self, level: float, options: dict[str, Any]) -> nn.Module:
        """Remove channels, and time what is left beside the dense network."""
        image = torch.zeros(1, *self.model.input_size)
        budget = Budget(level, **{key: options[key] for key in self.budget if key in options})
        selection = select_channels(self.model, image, loader=self.images, **budget.options(), **{
            key: value for key, value in options.items() if key not in self.budget})
        self.graph, self.maps = selection.graph, selection.maps
        self.source = Source.mapped(self.graph, self.maps)
        pruned = transform(self.graph, self.maps)
        self.latencies = {} if selection.choice is None else {
            f'predicted/{key}': value for key, value in (('dense', selection.dense), ('pruned', selection.choice.cost))}
        for batch in self.part.get('batch_sizes', (1,)) if self.part.get('engines') else ():
            images = torch.randn(batch, *self.model.input_size, generator=torch.Generator().manual_seed(0))
            found = compare_latency(dict(dense=self.model, pruned=pruned), images, self.part['engines'])
            for engine, times in found.items():
                dense, own = times['dense'].median, times['pruned'].median
                self.latencies |= {f'{engine}/batch{batch}/{key}': value for key, value in (
                    ('dense_ms', 1e3 * dense), ('pruned_ms', 1e3 * own), ('speedup', dense / own))}
        return pruned

    def targets(self, method: Method) -> dict[str, Any]:
        """Return the dense network, and statistics there of the channels that are left."""
        return dict(targets=dense_targets(method, self.graph, self.maps, self.images),
                    sources=[self.source])

    def measured(self, model: nn.Module, cell: dict[str, Any]) -> None:
        """Write a checkpoint; of a network from a network file, a network file."""
        if cell['method'] == 'dense':
            return
        name = '_'.join(str(cell[key]) for key in self.columns)
        if isinstance(model, NetworkClassifier):
            kept = {layer.removeprefix('network.'): index for layer, index in self.source.outputs().items()}
            network = record_change(model.network, 'prune_channels', self.model.network, share=cell['target'],
                                    outputs=kept,
                                    **{key: self.part['methods'][cell['method']].get(key, default)
                                       for key, default in (('cost', 'macs'), ('saliency', 'magnitude'))})
            save(network.cpu(), self.folder / f'{name}.safetensors')
        else:
            with atomic_path(self.folder / f'{name}.pth') as path:
                torch.save(dict(meta=cell, state_dict=model.state_dict()), path)

    def describe(self, model: nn.Module) -> dict[str, float]:
        """Return size and, once something is pruned, latencies."""
        return dict(macs=count_macs(model, self.model.input_size), params=count_params(model), **self.latencies)

    def execute(self) -> dict[str, Any]:
        """See :meth:`PruningSweep.execute`."""
        self.latencies: dict[str, float] = {}
        return super().execute()

    def draw(self) -> Figure:
        """Draw accuracy against what is left."""
        return draw_pruning(self.rows, self.accuracy_key(), self.level, 'share of the multiply-accumulates')
