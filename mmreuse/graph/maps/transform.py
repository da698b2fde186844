"""One function that changes a network: one linear map for every feature space."""
from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmreuse.errors import SpaceError
from mmreuse.graph.copying import copy_model, fresh_copy, refresh
from mmreuse.graph.maps.attributes import adjust_attributes
from mmreuse.graph.maps.axis_plan import AxisPlan, plan_axis
from mmreuse.graph.maps.linear_maps import Select, SpaceMap
from mmreuse.graph.maps.resolve_maps import ResolvedMap, resolve_maps
from mmreuse.graph.proof.doubles import as_double, run_in_double
from mmreuse.graph.spaces.derive import Axis, FeatureSpace
from mmreuse.graph.values import frozen_random, random_like, tensors_within
from mmreuse.utils.hooks import running_modules

if TYPE_CHECKING:
    from mmreuse.graph.traced_model import TracedModel

#: Largest difference of a network without some heads from what is expected, relative to the largest output.
TOLERANCE = 1e-6


def transform(graph: TracedModel, maps: dict[str, SpaceMap]) -> nn.Module:
    """Apply one linear map to each of some feature spaces.

    What writes a space or accompanies it (weights, biases, norms, statistics) becomes
    ``merge @ x`` along its axis, what reads it ``x @ unmerge``. Where an axis holds
    every member several times (a flattened map, say) the map acts on each repetition.
    Permutations leave the function as it is. A selection does if what is left out is zero.
    For ``Assign`` and ``Dense`` nothing is promised: a norm divides every channel by its own
    deviation, which no linear map passes through; reset running statistics afterwards.

    A space whose blocks are another space moves with it: a map of heads alone moves all that
    is in them. A map of members alone must leave every member in its block.

    Args:
        graph: The traced network; its model is not touched.
        maps: By name of the space; spaces without a map stay as they are.

    Returns:
        nn.Module: A copy with the same module names and an ordinary state_dict, sizes of its layers adjusted.

    Raises:
        SpaceError: A space is unknown, a map does not fit, or the network's code does not allow the new sizes.
    """
    model, guessed = rewrite(graph.model, graph.spaces, maps)
    resized = {name: item for name, item in resolve_maps(graph.spaces, maps).items() if item.resizes}
    if not resized:
        return model
    try:
        _prove_runs(graph, model, resized)
        if guessed:
            _prove_heads(graph, resized)
    except SpaceError:
        if not guessed:
            raise
        model, _ = rewrite(graph.model, graph.spaces, maps, widths=False)
        _prove_runs(graph, model, resized)
    return model


def rewrite(model: nn.Module, spaces: dict[str, FeatureSpace], maps: dict[str, SpaceMap],
            widths: bool = True) -> tuple[nn.Module, bool]:
    """Do what :func:`transform` does, without the proof that the result runs.

    Args:
        model: Left as it is; on any device, also on the meta device.
        spaces: Of it.
        maps: By name of the space.
        widths: See :func:`mmreuse.graph.maps.attributes.adjust_attributes`.

    Returns:
        tuple: A copy, and whether numbers were changed in it that are known by their value alone.

    Raises:
        SpaceError: A space is unknown, or a map does not fit.
    """
    placed = resolve_maps(spaces, maps)
    model = copy_model(model)
    groups = apply_maps(model, placed)
    resized = {name: item for name, item in placed.items() if item.resizes}
    guessed = adjust_attributes(model, resized, groups, widths) if resized else False
    refresh(model)
    return model, guessed


def apply_maps(model: nn.Module, placed: dict[str, ResolvedMap]) -> dict[str, int]:
    """Change the parameters and buffers of a network in place.

    Returns:
        dict: Number of groups of every grouped kernel that was changed, by module.
    """
    state = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    owners, groups = _owners(model), {}
    with torch.no_grad():
        for key, axes in _axes_by_tensor(placed).items():
            old = state.pop(key)
            _store(old, _map_tensor(old, axes, key), owners)
            groups.update({key.rpartition('.')[0]: _new_groups(axis, item) for axis, item in axes if axis.groups > 1})
    return groups


def _axes_by_tensor(placed: dict[str, ResolvedMap]) -> dict[str, list[tuple[Axis, ResolvedMap]]]:
    axes = defaultdict(list)
    for item in placed.values():
        for axis in item.space.axes:
            axes[axis.tensor].append((axis, item))
    return axes


def _map_tensor(x: Tensor, axes: list[tuple[Axis, ResolvedMap]], key: str) -> Tensor:
    """Map one parameter or buffer along all its axes."""
    grouped = next(((axis, item) for axis, item in axes if axis.groups > 1), None)
    if grouped is not None:
        return _map_grouped(x, axes, grouped[0].groups, _new_groups(*grouped), key)
    places = defaultdict(list)
    for axis, item in axes:
        places[axis.dim, axis.shape].append((axis, item))
    for (dim, shape), together in places.items():
        old = x.shape
        x = plan_axis(together).apply(x if shape is None else x.reshape(shape), dim)
        if shape is not None:
            x = _unview(x, dim, old, shape, key)
    return x.contiguous()


def _unview(x: Tensor, dim: int, old: torch.Size, view: tuple[int, ...], key: str) -> Tensor:
    """Undo the view of several axes as one; of those at most one may have changed."""
    if x.shape[dim] == view[dim]:
        return x.reshape(old)
    span = len(old) - len(view) + 1
    joined = list(old[dim:dim + span])
    wide = [number for number, size in enumerate(joined) if size > 1]
    if len(wide) != 1:
        raise SpaceError(f"'{key}' of shape {tuple(old)} holds the space on several axes at once and cannot change "
                         'its size; keep the number of features.')
    joined[wide[0]] = x.shape[dim]
    return x.reshape(*old[:dim], *joined, *old[dim + span:])


def _new_groups(axis: Axis, item: ResolvedMap) -> int:
    """Return the number of groups of a kernel after the map of the space that it reads group by group."""
    return axis.groups * len(item.blocks.unique()) // item.space.num_blocks


def _map_grouped(x: Tensor, axes: list[tuple[Axis, ResolvedMap]], groups: int, new_groups: int, key: str) -> Tensor:
    """Map a grouped kernel (rows, inside, ...), whose second axis stands for groups * inside columns."""
    rows, columns = x.shape[0], x.shape[1] * groups
    plans = [plan_axis(together) if together else None
             for together in ([(axis, item) for axis, item in axes if axis.dim == dim] for dim in (0, 1))]
    new_rows, new_columns = (length if plan is None else plan.length
                             for plan, length in zip(plans, (rows, columns), strict=True))
    if new_rows % new_groups or new_columns % new_groups:
        raise SpaceError(f"'{key}' of shape {tuple(x.shape)} in {groups} groups would have {new_rows} rows and "
                         f'{new_columns} columns, which {new_groups} equal groups cannot hold.')
    if all(isinstance(item.map, Select) for _, item in axes):
        out = _pick_grouped(x, plans, groups, new_groups)
    else:
        out = _mix_grouped(x, plans, groups, new_groups)
    if out is None:
        raise SpaceError(f"'{key}': the maps of its input and of its output move the {groups} groups differently.")
    return out


def _pick_grouped(x: Tensor, plans: list[AxisPlan | None], groups: int, new_groups: int) -> Tensor | None:
    """Return the rows and columns of a grouped kernel in new places; None where that would leave its groups."""
    inside = x.shape[1]
    rows, columns = (torch.arange(length) if plan is None else plan.sources()
                     for plan, length in zip(plans, (x.shape[0], inside * groups), strict=True))
    table = columns.reshape(new_groups, -1).repeat_interleave(len(rows) // new_groups, 0)  # columns of each row
    if bool((table // inside != (rows // (x.shape[0] // groups))[:, None]).any()):
        return None
    return x[rows.to(x.device)[:, None], (table % inside).to(x.device)]


def _mix_grouped(x: Tensor, plans: list[AxisPlan | None], groups: int, new_groups: int) -> Tensor | None:
    """Map a grouped kernel through its block-diagonal form; None where something is left outside the diagonal."""
    rows, inside = x.shape[:2]
    wide = x.new_zeros((groups, rows // groups, groups, inside, *x.shape[2:]))
    diagonal = torch.arange(groups, device=x.device)
    wide[diagonal, :, diagonal] = x.reshape(groups, rows // groups, inside, *x.shape[2:])
    wide = wide.reshape(rows, groups * inside, *x.shape[2:])
    for dim, plan in enumerate(plans):
        wide = wide if plan is None else plan.apply(wide, dim)
    wide = wide.reshape(new_groups, wide.shape[0] // new_groups, new_groups, -1, *x.shape[2:])
    diagonal = torch.arange(new_groups, device=x.device)
    out = wide[diagonal, :, diagonal].clone()
    wide[diagonal, :, diagonal] = 0
    outside = bool((wide.abs() > 1e-9 * x.abs().max()).any())
    return None if outside else out.reshape(-1, *out.shape[2:])


def _owners(model: nn.Module) -> dict[int, list[tuple[dict, str]]]:
    """Every place where a module keeps a parameter or buffer, by its identity: some have several names."""
    owners = defaultdict(list)
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    owners[id(tensor)].append((table, name))
    return owners


def _store(old: Tensor, new: Tensor, owners: dict[int, list[tuple[dict, str]]]) -> None:
    """Put a new value wherever the old one was kept."""
    new = new.to(old)
    value = nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
    for table, name in owners[id(old)]:
        table[name] = value


def _prove_runs(graph: TracedModel, model: nn.Module, resized: dict[str, ResolvedMap]) -> None:
    """Run the result once: code may fix a width that the new sizes break."""
    inputs = random_like(graph.inputs, device='cpu')  # wherever the network lives
    twin = fresh_copy(model).cpu()
    with running_modules(twin) as running, torch.no_grad(), frozen_random(0):
        before = [tensor.shape for tensor in tensors_within(fresh_copy(graph.model).cpu()(*inputs))]
        try:
            after = [tensor.shape for tensor in tensors_within(twin(*inputs))]
        except Exception as error:
            place = running[-1] if running else ''
            inside = [name for name, item in resized.items()
                      if any(axis.tensor.startswith(place) for axis in item.space.axes)] or list(resized)
            raise SpaceError(f"The code of module '{place}' ({type(twin.get_submodule(place)).__name__}) does not run "
                             f"with the new sizes of {', '.join(inside)}: {type(error).__name__}: {error}. "
                             'It fixes a width in its forward; leave these spaces at their size.') from error
    if before != after:
        raise SpaceError(f'The output would change its shape from {before} to {after}.')


def _prove_heads(graph: TracedModel, resized: dict[str, ResolvedMap]) -> None:
    """Compare a network without some heads with one in which nothing reads these heads.

    Raises:
        SpaceError: They differ: a number that was changed for its value means something else.
    """
    outer = {item.space.block_space for item in resized.values()} & resized.keys()
    heads = {name: resized[name].map for name in outer if isinstance(resized[name].map, Select)}
    model = fresh_copy(graph.model).cpu().double()
    with torch.no_grad(), frozen_random(0):
        for parameter in model.parameters():
            if not parameter.any():  # a layer that starts at zero would hide the difference
                parameter.normal_()
    silent = fresh_copy(model)
    state = silent.state_dict()
    for item in resolve_maps(graph.spaces, heads).values():
        gone = torch.ones(item.space.size + 1, dtype=torch.bool)  # the last: what is not of this space
        gone[torch.cat([item.map.index, torch.tensor([item.space.size])])] = False
        for axis in item.space.axes:
            if axis.role == 'read':
                tensor = state[axis.tensor]
                tensor.masked_fill_(gone[axis.members(tensor.shape)], 0)
    refresh(silent)
    inputs = as_double(random_like(graph.inputs, device='cpu'))
    expected = run_in_double(silent, inputs)
    error = (run_in_double(rewrite(model, graph.spaces, heads)[0], inputs) - expected).abs().max()
    if not error <= TOLERANCE * expected.abs().max():
        raise SpaceError(f'without some of {", ".join(heads)} {type(graph.model).__name__} differs by {error:.1e} from '
                         'what it computes where nothing reads them; leave these spaces at their size.')
