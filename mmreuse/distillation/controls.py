"""Controls: what calibration and distillation reach from other starts, and what a closed-form head reaches.

A changed network that was calibrated or distilled has learnt from its sources on images. How much of the result is the
merge's, and how much would any network have learnt that way? Controls answer that beside every result: the same from
random weights, from each source and from the plain average; the features of one source, and of all, with a head that is
solved for on the same images; the ensemble.
"""
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmreuse.distillation.objective import Scoring
from mmreuse.distillation.teachers import surest_scores
from mmreuse.graph import copy_model
from mmreuse.merging import MergedModel
from mmreuse.statistics import head_inputs, solve_ridge
from mmreuse.utils.modes import evaluating

RANDOM, AVERAGE, ENSEMBLE = 'random', 'average', 'ensemble'
FROM, HEAD = 'from ', 'head on '
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.)


def random_start(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy with random weights: layers drawn as torch draws them, other parameters with deviation 0.02."""
    twin = copy_model(network)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in twin.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()
            else:
                for parameter in module.parameters(recurse=False):
                    nn.init.trunc_normal_(parameter, std=0.02)
    return twin


def starts(network: nn.Module, sources: Mapping[str, nn.Module], seed: int = 0) -> dict[str, nn.Module | None]:
    """Return networks of the structure of a changed one, to be repaired as it is; None where weights do not fit.

    Args:
        network: The changed network.
        sources: What it was made of, by name.
        seed: Of random weights.

    Returns:
        dict: ``random``, ``from <name>`` for each source, and ``average`` of their weights where there are several.
    """
    states = [source.state_dict() for source in sources.values()]
    found = {RANDOM: random_start(network, seed),
             **{f'{FROM}{name}': start_from(network, state) for name, state in zip(sources, states, strict=True)}}
    return found if len(states) < 2 else {**found, AVERAGE: start_from(network, _mean(states))}


def start_from(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module | None:
    """Return a copy with the parameters and statistics of another network; None where one is missing or does not fit.

    Args:
        network: The changed network; or a merged one, whose trunk has the names of the other.
        state: State dict of the other.
    """
    twin = copy_model(network)
    inner = twin.trunk if isinstance(twin, MergedModel) and twin.trunk.state_dict().keys() == state.keys() else twin
    own = {name: tensor for name, tensor in inner.state_dict().items() if tensor.is_floating_point()}
    if any(name not in state or state[name].shape != tensor.shape for name, tensor in own.items()):
        return None
    inner.load_state_dict({name: state[name] for name in own}, strict=False)
    return twin


def keep_zeros(start: nn.Module, network: nn.Module) -> nn.Module:
    """Set the weights of a start to zero where those of a network are, as calibration leaves them; return the start."""
    with torch.no_grad():
        for own, other in zip(start.parameters(), network.parameters(), strict=True):
            if own.dim() > 1:
                own.mul_(other.to(own) != 0)
    return start


def redraw(network: nn.Module, loader: object = None, *, seed: int = 0) -> None:
    """Give a network random weights, in place; of a merged one its trunk. Weights that are zero stay zero.

    Before others in a list of renormalizers it makes their control: what they reach from random weights.

    Args:
        network: To be calibrated.
        loader: Not used.
        seed: Of the weights.
    """
    inner = network.trunk if isinstance(network, MergedModel) else network
    inner.load_state_dict(keep_zeros(random_start(inner, seed), inner).state_dict())


def _mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of what all have in one shape."""
    shared = [name for name, tensor in states[0].items()
              if all(name in state and state[name].shape == tensor.shape for state in states)]
    return {name: sum(state[name].double() for state in states).div(len(states)) for name in shared}


class FeatureHead(nn.Module):
    """A linear head on what the last linear layers of several networks read, solved for in closed form.

    Args:
        networks: Whose features are read; left as they are.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(copy_model(network) for network in networks).eval()
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, F) of all networks.

        Raises:
            ConfigError: A network has no linear layer that reads one vector an image.
        """
        with evaluating(self.networks):
            return torch.cat([head_inputs(network, images) for network in self.networks], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Score all classes, (B, C)."""
        return self.features(images) @ self.weight.T + self.bias

    def scores(self, images: Tensor) -> Tensor:
        """Score all classes by its one output, (B, 1, C)."""
        return self(images)[:, None]

    @torch.no_grad()
    def fit(self, images: Tensor, goal: Tensor) -> 'FeatureHead':
        """Solve ``min_W ||goal - W f - b||^2 + lam ||W||^2``; the last fifth of the images chooses ``lam``.

        Args:
            images: (S, ...), prepared.
            goal: (S, C).
        """
        features = torch.cat([self.features(batch) for batch in images.split(256)]).double()
        goal, last = goal.double(), max(1, len(images) // 5)
        errors = {ridge: _residual(*_ridge(features[:-last], goal[:-last], ridge), features[-last:], goal[-last:])
                  for ridge in _RIDGES}
        weight, bias = _ridge(features, goal, min(errors, key=errors.get))
        self.weight, self.bias = weight.to(images), bias.to(images)
        return self


@torch.no_grad()
def head_goal(scoring: Scoring, images: Tensor) -> Tensor:
    """Return the scores (S, C) that a head is fitted to: for each image those of the source that is surest.

    This is, without labels, the source of whose task an image is taken to be; of networks of the same classes all are,
    and their mean counts. Of three such goals that were tried it makes the strongest heads.
    """
    scores = torch.cat([scoring.sources(batch) for batch in images.split(256)])
    tasks = scoring.tasks_of(scores)
    return scores.mean(1) if len(tasks) == 1 else _finite(surest_scores(scores, tasks))


def closed_form_heads(sources: Mapping[str, nn.Module], scoring: Scoring, images: Tensor) -> dict[str, FeatureHead]:
    """Return heads on the features of each source, and of all, fitted to :func:`head_goal`.

    Args:
        sources: By name.
        scoring: Of the sources.
        images: Those that the network was calibrated or distilled on.
    """
    goal = head_goal(scoring, images)
    found = {f'{HEAD}{name}': [network] for name, network in sources.items()}
    if len(sources) > 1:
        found[f'{HEAD}all'] = list(sources.values())
    return {name: FeatureHead(networks).fit(images, goal) for name, networks in found.items()}


def _finite(scores: Tensor) -> Tensor:
    """Scores with the lowest known one of each image in place of -inf."""
    known = scores.isfinite()
    return torch.where(known, scores, scores.masked_fill(~known, torch.inf).amin(1, keepdim=True))


def _ridge(features: Tensor, goal: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    mean, middle = features.mean(0), goal.mean(0)
    x, y = features - mean, goal - middle
    gram = x.T @ x
    level = ridge * gram.diagonal().mean().clamp(min=1e-12)
    weight = solve_ridge(gram, y.T @ x, level)
    return weight, middle - weight @ mean


def _residual(weight: Tensor, bias: Tensor, features: Tensor, goal: Tensor) -> float:
    return float((features @ weight.T + bias - goal).square().sum())
