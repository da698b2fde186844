"""What else a budget buys: a network that is too large for it, with channels removed until it fits."""
import math

from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.pruning import prune_channels
from mmreuse.utils.cost.complexity import count_macs, count_params


def prune_to_budget(network: nn.Module, images: Tensor, *, params: float = math.inf,
                    macs: float = math.inf) -> nn.Module:
    """Return a copy within a budget, its layers refitted in closed form to what they gave before.

    Channels go by magnitude, those of each feature space compared with their mean.

    Args:
        network: From images to scores; left as it is.
        images: (N, C, H, W), prepared; a few hundred.
        params: Parameters at most.
        macs: Multiply-accumulates of one image at most.

    Raises:
        ConfigError: The network is within the budget already.
        InfeasibleError: Even the smallest network allowed is not.
    """
    def excess(of: nn.Module) -> float:
        return max(count_params(of) / params, count_macs(of, images[:1]) / macs)

    dense = excess(network)
    if dense <= 1:
        raise ConfigError(f'{type(network).__name__} is within the budget of {params:,} parameters and {macs:,} '
                          'multiply-accumulates; there is nothing to prune.')
    return prune_channels(network, images[:1], 1 / dense, images.split(64), renormalizers=['calibrate'],
                          cost=lambda _dense, pruned, _inputs: excess(pruned) / dense)
