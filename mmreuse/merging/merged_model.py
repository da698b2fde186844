"""The result of a merge: one self-describing module, shared in part or as a whole."""
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError
from mmreuse.merging.partial.boundary_maps import Unmerge
from mmreuse.merging.partial.merge_layer import MergeLayer
from mmreuse.statistics.data import logits_of


class BoundaryMerge(nn.Module):
    """One tensor that crosses into the merged span: the mean over models of what their maps make of it.

    Args:
        maps: One module per model; identities where the tensor carries no features.
    """

    def __init__(self, maps: Sequence[nn.Module]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        """Join one tensor per model; masks and indices are the first model's."""
        if not values[0].is_floating_point():
            return values[0]
        return sum(each(value) for each, value in zip(self.maps, values, strict=True)) / len(values)


class Copy(nn.Module):
    """A tensor without merged features: every tail gets its own, since some change their input in place."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class JointScores(nn.Module):
    """One score for every class of all tasks, from the outputs of one head per task.

    Heads that were trained apart do not know of each other's classes, and their logits have differing scales. So each
    is given the offset and the temperature by which its largest logit has mean 0 and deviation 1 over images of all
    tasks, no labels needed: the head whose largest logit stands out most decides.

    Args:
        heads: How many there are.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer('offset', torch.zeros(heads))
        self.register_buffer('temperature', torch.ones(heads))

    def forward(self, outputs: Sequence[Any]) -> Tensor:
        """Join logits (B, C_i) of each head, or what holds them, to scores (B, sum of C_i)."""
        outputs = [logits_of(each) for each in outputs]
        offset, temperature = self.offset.to(outputs[0]), self.temperature.to(outputs[0])
        return torch.cat([(own - offset[number]) / temperature[number] for number, own in enumerate(outputs)], 1)


class MergedModel(nn.Module):
    """Several models in one: own fronts, a common trunk, own tails; fronts and tails only where they were asked for.

    ``fronts[i]`` and the trunk return as many tensors as cross there. ``joins`` has one module for each tensor that
    crosses into the trunk, ``splits`` for each model one for every tensor that crosses out of it.

    Args:
        trunk: The merged span.
        recipe: Plain values that say the structure, see :func:`~mmreuse.merging.files.skeleton`; kept as JSON text in
            a buffer.
        fronts: One module per model, or None.
        joins: One module per tensor, or None.
        splits: For each model, one module per tensor; or None.
        tails: One module per model, or None.

    Attributes:
        joint: What makes one output of those of all tails, or None.
        method: Name of the matcher or merger.
        scores: Mean similarity of the features that were joined, by feature space; not saved.
    """

    def __init__(
        self,
        trunk: nn.Module,
        recipe: Mapping[str, Any],
        fronts: Sequence[nn.Module] | None = None,
        joins: Sequence[BoundaryMerge | MergeLayer] | None = None,
        splits: Sequence[Sequence[Unmerge | Copy]] | None = None,
        tails: Sequence[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.fronts = None if fronts is None else nn.ModuleList(fronts)
        self.joins = None if joins is None else nn.ModuleList(joins)
        self.trunk = trunk
        self.splits = None if splits is None else nn.ModuleList(nn.ModuleList(own) for own in splits)
        self.tails = None if tails is None else nn.ModuleList(tails)
        self.joint: JointScores | None = None
        self.method = ''
        self.scores: dict[str, float] = {}
        self.describe(recipe)

    def describe(self, recipe: Mapping[str, Any]) -> None:
        """Write another structure into the state dict."""
        text = json.dumps(recipe, sort_keys=True).encode()
        self.register_buffer('recipe', torch.tensor(list(text), dtype=torch.uint8))

    @property
    def class_names(self) -> list[Any] | None:
        """Return the names of the outputs, by task if there is one output per task; None where they were not given."""
        return recipe_of({'recipe': self.recipe}).get('class_names')

    def forward(self, *inputs: Tensor) -> Any:
        """Run all models on the same inputs.

        Returns:
            What one model returns, if everything is merged; otherwise a tuple with what each model's tail returns, or
            the scores that ``joint`` makes of that.
        """
        if self.fronts is not None:
            found = [front(*inputs) for front in self.fronts]
            inputs = tuple(join(values) for join, values in zip(self.joins, zip(*found, strict=True), strict=True))
        merged = self.trunk(*inputs)
        if self.tails is None:
            return merged
        found = tuple(tail(*(split(value) for split, value in zip(own, merged, strict=True)))
                      for own, tail in zip(self.splits, self.tails, strict=True))
        return found if self.joint is None else self.joint(found)


def recipe_of(state_dict: Mapping[str, Tensor], prefix: str = '') -> dict[str, Any]:
    """Read what the state dict of a :class:`MergedModel` says of its structure.

    Args:
        state_dict: Of the model, or of one that holds it.
        prefix: In front of the merged model's keys, with its dot.

    Raises:
        ArtefactError: There is no recipe in it, or it is damaged.
    """
    key = f'{prefix}recipe'
    if key not in state_dict:
        raise ArtefactError(f"the state dict has no '{key}': it is not of a merged model"
                            f"{f' under the prefix {prefix!r}' if prefix else ''}.")
    try:
        recipe = json.loads(bytes(state_dict[key].tolist()))
    except ValueError as error:
        raise ArtefactError(f"'{key}' of the state dict is damaged ({error}); merge again.") from error
    return recipe
