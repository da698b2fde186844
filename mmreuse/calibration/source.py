"""Networks that another one was made of."""
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmreuse.graph import AxisPlan, SpaceMap, TracedModel, plan_axis, resolve_maps
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
                layer, _, name = axis.tensor.rpartition('.')
                if axis.dim == 0 and name in ('weight', 'in_proj_weight'):
                    axes[layer if name == 'weight' else f'{layer}.in_proj'].append((axis, item))
        return cls(graph.model, {layer: plan_axis(found) for layer, found in axes.items()})

    def fingerprint(self) -> list[Any]:
        """Return what tells one source from another."""
        return [state_hash(self.model), {layer: _described(plan) for layer, plan in self.plans.items()}]


def _described(plan: AxisPlan) -> list[Any]:
    parts = [[{key: value.tolist() if isinstance(value, Tensor) else value for key, value in vars(item.map).items()},
              role, before.tolist(), after.tolist()] for item, role, before, after in plan.parts]
    return [plan.length, plan.old.tolist(), plan.new.tolist(), parts]
