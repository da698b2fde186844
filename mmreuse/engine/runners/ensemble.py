"""Several classifiers as one."""
from collections.abc import Sequence

from torch import Tensor, nn


class Ensemble(nn.Module):
    """The mean of the probabilities that networks give to each class.

    Args:
        networks: Of :class:`~mmreuse.models.NetworkClassifier`, for the same classes.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logarithms of probabilities (B, C)."""
        return (sum(network(images).softmax(1) for network in self.networks) / len(self.networks)).log()
