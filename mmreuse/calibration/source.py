"""Networks that another one was made of."""
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.graph import AxisPlan, SpaceMap, TracedModel, plan_axis, resolve_maps
from mmreuse.networks.kept_outputs import kept_outputs, layer_of
from mmreuse.utils.files.io import state_hash


@dataclass(frozen=True)
class Source:
    """A network that another one was made of, and how the outputs of its layers became those of the other.

    Attributes:
        model: With the other network's module names.
        plans: How the channels that a layer gives are mapped, by layer; what has none has the other's features. What
            several sources give is averaged, so maps of which the changed network is the sum are times their number.
    """
    model: nn.Module
    plans: Mapping[str, AxisPlan] = field(default_factory=dict)

    @classmethod
    def mapped(cls, graph: TracedModel, maps: Mapping[str, SpaceMap]) -> 'Source':
        """Return the source of ``transform(graph, maps)``."""
        axes = defaultdict(list)
        for item in resolve_maps(graph.spaces, dict(maps)).values():
            for axis in item.space.axes:
                layer = layer_of(axis.tensor)
                if axis.dim == 0 and layer is not None:
                    axes[layer].append((axis, item))
        return cls(graph.model, {layer: plan_axis(found) for layer, found in axes.items()})

    @classmethod
    def of(cls, network: nn.Module, model: nn.Module) -> 'Source':
        """Return a model as a source of a network, with the channels that are left of it by the network's record.

        Args:
            network: Made of the model, by jobs.
            model: With the weights of then. Of another one no channels are known; where widths are the same they are
                taken to be in one order.
        """
        return cls.picking(model, kept_outputs(network, model) or {})

    @classmethod
    def picking(cls, model: nn.Module, kept: Mapping[str, Sequence[int]]) -> 'Source':
        """Return a model as a source of a network in which these outputs of its layers are left."""
        return cls(model, {layer: AxisPlan.picking(torch.tensor(index)) for layer, index in kept.items()})

    def follows(self, layer: str, network: nn.Module) -> bool:
        """Return whether it is known which channels of a layer the other network's layer of that name gives."""
        own, other = (len(next(model.get_submodule(layer).parameters())) for model in (self.model, network))
        return own == other or any(each == layer or each.startswith(f'{layer}.') for each in self.plans)

    def outputs(self) -> dict[str, list[int]]:
        """Return what the record of the other notes: by layer, which of the outputs are left."""
        return {layer: plan.sources().tolist() for layer, plan in self.plans.items()}

    def fingerprint(self) -> list[Any]:
        """Return what tells one source from another."""
        return [state_hash(self.model), {layer: _described(plan) for layer, plan in self.plans.items()}]


def _described(plan: AxisPlan) -> list[Any]:
    parts = [[{key: value.tolist() if isinstance(value, Tensor) else value for key, value in vars(item.map).items()},
              role, before.tolist(), after.tolist()] for item, role, before, after in plan.parts]
    return [plan.length, plan.old.tolist(), plan.new.tolist(), parts]
