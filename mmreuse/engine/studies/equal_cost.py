"""What else a budget buys: a network within it, and one that is too large, with channels removed until it fits."""
import math
from collections.abc import Mapping

from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.pruning import prune_channels
from mmreuse.utils.cost.complexity import count_macs, count_params


def equal_cost_networks(networks: Mapping[str, nn.Module], images: Tensor, *, params: float = math.inf,
                        macs: float = math.inf) -> dict[str, nn.Module]:
    """Return the first network within a budget as it is, and the first of the others pruned to it, by their names.

    Args:
        networks: Best first.
        images, params, macs: As for :func:`prune_to_budget`.
    """
    within = [name for name, network in networks.items() if _excess(network, images, params, macs) <= 1]
    found = {name: networks[name] for name in within[:1]}
    for name in [name for name in networks if name not in within][:1]:
        found[name] = prune_to_budget(networks[name], images, params=params, macs=macs)
    return found


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
    dense = _excess(network, images, params, macs)
    if dense <= 1:
        raise ConfigError(f'{type(network).__name__} is within the budget of {params:,} parameters and {macs:,} '
                          'multiply-accumulates; there is nothing to prune.')
    return prune_channels(network, images[:1], 1 / dense, images.split(64), renormalizers=['calibrate'],
                          cost=lambda _dense, pruned, _inputs: _excess(pruned, images, params, macs) / dense)


def _excess(network: nn.Module, images: Tensor, params: float, macs: float) -> float:
    """Return how many times as much as a budget allows a network takes."""
    return max(count_params(network) / params, count_macs(network, images[:1]) / macs)
