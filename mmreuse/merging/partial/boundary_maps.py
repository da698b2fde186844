"""Boundaries of merged and unmerged spans: one small module for every tensor that crosses."""
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmreuse.graph import AxisPlan, Dense


class _AxisMap(nn.Module):
    """A linear map along the axis, or the axes flattened into one, that hold the features.

    Features that dense maps mix are computed and put behind those that are there; the rest is done with indices.
    """

    def __init__(self, dims: Sequence[int], extents: Sequence[int], plan: AxisPlan, role: str) -> None:
        super().__init__()
        self.dims = tuple(dims)
        self.extents = tuple(extents)
        dense = [part for part in plan.parts if isinstance(part[0].map, Dense)]
        self.parts = len(dense)
        for number, (item, _, before, after) in enumerate(dense):
            matrix = item.map.merge_matrix if role == 'merge' else item.map.unmerge_matrix
            self.register_buffer(f'matrix{number}', matrix.float().contiguous())
            self.register_buffer(f'source{number}', (before if role == 'merge' else after).contiguous())

    def flat(self, x: Tensor) -> tuple[Tensor, int]:
        """Bring all axes of features into one, and say which."""
        if len(self.dims) == 1:
            return x, self.dims[0]
        first = x.dim() - len(self.dims)
        return x.permute(self._order(x.dim())).flatten(first), first

    def unflat(self, x: Tensor) -> Tensor:
        """Undo :meth:`flat`."""
        if len(self.dims) == 1:
            return x
        x = x.unflatten(x.dim() - 1, self.extents)
        order = self._order(x.dim())
        return x.permute([order.index(dim) for dim in range(x.dim())])

    def _order(self, rank: int) -> list[int]:
        """Return the axes of a tensor, those of features last."""
        return [dim for dim in range(rank) if dim not in self.dims] + list(self.dims)

    def with_dense(self, x: Tensor, axis: int) -> Tensor:
        """Put what the matrices make of their features, repeat by repeat, behind ``x``."""
        found = [x]
        for number in range(self.parts):
            matrix, source = getattr(self, f'matrix{number}'), getattr(self, f'source{number}')
            rows = x.index_select(axis, source.flatten()).unflatten(axis, tuple(source.shape))
            mixed = nn.functional.linear(rows.transpose(axis, rows.dim() - 1), matrix.to(x.dtype))
            found.append(mixed.transpose(axis, rows.dim() - 1).flatten(axis, axis + 1))
        return torch.cat(found, axis) if self.parts else x


class Unmerge(_AxisMap):
    """One model's features out of merged ones: ``f_i = U_i @ f``.

    Args:
        dims: Axes of the tensor that hold the features.
        extents: Their lengths in the model.
        plan: From the model's features to the merged ones.
    """

    def __init__(self, dims: Sequence[int], extents: Sequence[int], plan: AxisPlan) -> None:
        super().__init__(dims, extents, plan, 'unmerge')
        size = len(plan.old) + sum(before.numel() for _, _, before, _ in plan.parts)
        index, kept = torch.zeros(size, dtype=torch.long), torch.ones(size)
        index[plan.old] = plan.new
        behind = plan.length
        for item, _, before, after in plan.parts:
            if isinstance(item.map, Dense):
                index[before] = torch.arange(behind, behind + before.numel()).reshape(before.shape)
                behind += before.numel()
            else:
                index[before] = after[item.map.index.clamp(min=0)]
                kept[before] = (item.map.index >= 0).float()[:, None].expand(before.shape)
        self.register_buffer('index', index)
        self.register_buffer('kept', kept)  # 0 where a feature was left out of the merge

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of merged features to the same tensor of the model."""
        x, axis = self.flat(x)
        kept = self.kept.to(x.dtype).reshape(-1, *[1] * (x.dim() - axis - 1))
        return self.unflat(self.with_dense(x, axis).index_select(axis, self.index) * kept)


class Merge(_AxisMap):
    """The share of one model in merged features, N times over: ``N * M_i @ f_i``.

    Args:
        dims: Axes of the tensor that hold the features.
        extents: Their lengths in the merged model.
        plan: From the model's features to the merged ones, by maps of which the merged features are the mean.
    """

    def __init__(self, dims: Sequence[int], extents: Sequence[int], plan: AxisPlan) -> None:
        super().__init__(dims, extents, plan, 'merge')
        self.length = plan.length
        size = len(plan.old) + sum(before.numel() for _, _, before, _ in plan.parts)
        size += sum(after.numel() for item, _, _, after in plan.parts if isinstance(item.map, Dense))
        index, weight = torch.zeros(size, dtype=torch.long), torch.zeros(size)
        index[plan.old], weight[plan.old] = plan.new, 1.
        behind = size - sum(after.numel() for item, _, _, after in plan.parts if isinstance(item.map, Dense))
        for item, _, before, after in plan.parts:
            if isinstance(item.map, Dense):
                places = torch.arange(behind, behind + after.numel()).reshape(after.shape)
                index[places], weight[places] = after, 1.
                behind += after.numel()
            else:
                index[before] = after[item.map.index.clamp(min=0)]
                weight[before] = torch.where(item.map.index >= 0, item.map.weight, 0.).float()[:, None].expand(
                    before.shape)
        self.register_buffer('index', index)
        self.register_buffer('weight', weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of the model to the same tensor of merged features."""
        x, axis = self.flat(x)
        behind = [1] * (x.dim() - axis - 1)
        # Written for ONNX: ``index_add`` is exported as if no index came twice, and the shape of what was flattened
        # as if the batch were fixed.
        out = torch.zeros_like(x.index_select(axis, self.index.new_zeros(self.length)))
        rows = self.with_dense(x, axis)
        rows = rows * self.weight.to(x.dtype).reshape(-1, *behind)
        return self.unflat(out.scatter_add(axis, self.index.reshape(-1, *behind).expand_as(rows), rows))
