"""Where branches join a residual stream."""
import operator

import torch
from torch import fx, nn

from mmreuse.calibration.stepwise import Stepwise

_SUMS = (operator.add, operator.iadd, torch.add, 'add', 'add_')
#: What a branch may pass on its way from its last layer to the sum, in evaluation mode.
_PASSED = (nn.Identity, nn.modules.dropout._DropoutNd, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def stream_beside(run: Stepwise, number: int) -> fx.Node | None:
    """Return what a layer's output alone is added to, where that is known when the layer runs; None elsewhere.

    Args:
        run: Of the network.
        number: Of the operation that is the layer.
    """
    node = run.nodes[number]
    while len(node.users) == 1:
        user = next(iter(node.users))
        if user.op == 'call_module' and (type(module := run.network.get_submodule(user.target)) in _PASSED
                                         or isinstance(module, _PASSED[:2])):
            node = user
            continue
        if user.target not in _SUMS or user.kwargs or len(user.all_input_nodes) != 2:
            return None
        other = next(each for each in user.all_input_nodes if each is not node)
        return other if other in run.dynamic and _known(run, other, number) else None
    return None


def _known(run: Stepwise, node: fx.Node, number: int) -> bool:
    """Return whether a value is there in front of an operation, or follows from what is, as a shortcut that pads."""
    before = run.nodes[:number]
    if node in before:
        return True
    fixed = node.op == 'call_module' and not any(True for _ in run.network.get_submodule(node.target).parameters())
    return fixed and all(each in before for each in node.all_input_nodes)
