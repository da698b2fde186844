"""Networks with weights that are zero, as masks leave them."""
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd


@torch.no_grad()
def with_zeros(net: nn.Module, rows: float = 0.4, elements: float = 0.3) -> nn.Module:
    """Draw norms at random, so that nothing is symmetric, and set filters, single weights and biases to zero."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean):
                tensor.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, (_ConvNd, nn.Linear)):
            kept = torch.rand(len(module.weight), *[1] * (module.weight.dim() - 1)) > rows
            module.weight.mul_(kept & (torch.rand(module.weight.shape) > elements))
            if module.bias is not None:
                module.bias.mul_(torch.rand(module.bias.shape) > rows)
    return net.eval()
