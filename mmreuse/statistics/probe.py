"""Linear heads in closed form: what features say of a goal, judged on images that the head was not fitted to.

For centred features F (n, d) and goals Y the head is ``W = Y^T F (F^T F + lam I)^-1``. With ``F = U S V^T`` an
image's share in its own prediction is ``h_i = 1/n + sum_j U_ij^2 S_j^2 / (S_j^2 + lam)``, so that the error of each
image under a head fitted without it is ``(Y_i - W F_i) / (1 - h_i)`` (Allen, 1974): one decomposition judges every
``lam``.
"""
import torch
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.utils.hooks import linear_calls

#: Penalties, relative to the mean variance of a feature times the number of images.
PENALTIES = tuple(10.0**power for power in range(-6, 3))


def head_inputs(network: nn.Module, images: Tensor) -> Tensor:
    """Return what the last linear layer of a network reads, (B, F), in the mode that the network is in.

    Raises:
        ConfigError: There is no linear layer that reads one vector an image.
    """
    with linear_calls(network, 1) as calls:
        network(images)
    read = calls[0][1][0] if calls else None
    if read is None or read.dim() != 2:
        raise ConfigError(f'{type(network).__name__} has no linear layer at its end that reads one vector an image; no '
                          'head can be solved for.')
    return read


def fit_head(features: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (C, F) and bias (C,) of the ridge regression whose penalty leaves each image out best.

    Args:
        features: (n, F), float64.
        goal: (n, C), float64.
    """
    mean, middle = features.mean(0), goal.mean(0)
    left, values, right = torch.linalg.svd(features - mean, full_matrices=False)
    along, squares = left.T @ (goal - middle), values.square()
    # Features that do not vary at all predict nothing.
    unit = (squares.sum() / features.shape[1]).clamp(min=torch.finfo(squares.dtype).tiny)

    def error(penalty: float) -> float:
        share = squares / (squares + penalty * unit)
        own = 1 / len(features) + left.square() @ share
        wrong = goal - middle - left @ (share[:, None] * along)
        # An image that settles its own prediction says nothing of the head without it.
        return float((wrong / (1 - own).clamp(min=1e-6)[:, None]).square().sum())

    penalty = min(PENALTIES, key=error)
    weight = (along * (values / (squares + penalty * unit))[:, None]).T @ right
    return weight, middle - weight @ mean


def held_out_scores(features: Tensor, goal: Tensor, folds: int = 3, seed: int = 0) -> Tensor:
    """Return what heads say of each image that were fitted to the other folds, (n, C) float64.

    Args:
        features: (n, F).
        goal: (n, C).
        folds: The images are dealt out to so many parts.
        seed: Of the deal.

    Raises:
        ConfigError: ``folds`` is below 2.
        DataError: There are fewer than two images a fold.
    """
    if folds < 2:
        raise ConfigError(f'folds = {folds}: at least 2 are needed, one to fit and one to judge.')
    if len(features) < 2 * folds:
        raise DataError(f'{len(features)} images are too few for {folds} folds; give some hundred.')
    features, goal = features.double(), goal.double()
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed)).to(features.device)
    scores = torch.empty_like(goal)
    for part in order.tensor_split(folds):
        others = torch.ones(len(features), dtype=torch.bool, device=features.device)
        others[part] = False
        weight, bias = fit_head(features[others], goal[others])
        scores[part] = features[part] @ weight.T + bias
    return scores
