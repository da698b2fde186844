"""Successive halving on real short trainings: the budget goes to the candidates that do well.

All candidates are trained for a little, the better half by validation accuracy twice as long, and so on (Jamieson and
Talwalkar, 2016). Every training is one of its own, from the start and with its rate fallen to nothing at its end, as
the training that is meant ends: so accuracies say what a length is worth, and nothing but scores has to be kept for a
killed search to go on.
"""
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import copy_model, frozen_random
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.search.score_log import ScoreLog
from mmreuse.reassembly.zoo.structures import Candidate, Genotype
from mmreuse.statistics.evaluate import accuracy
from mmreuse.utils.draws import Draws, warm_cosine
from mmreuse.utils.files.io import state_hash
from mmreuse.utils.modes import kept_modes

#: Name of the score of a candidate: validation accuracy of its longest training, in [0, 1].
TRAINED = 'short_training'


@dataclass(frozen=True)
class Budget:
    """What may be spent on the trainings of all candidates together: iterations, or epochs."""
    iterations: int | None = None
    epochs: float | None = None
    samples: int | None = None  # images, those held out included; None for all that there are
    batch_size: int = 32
    lr: float = 2e-3  # the highest, of AdamW
    weight_decay: float = 0.05
    held_out: float = 0.2  # share of the images that trainings are judged on

    def __post_init__(self) -> None:
        if (self.iterations is None) == (self.epochs is None):
            raise ConfigError(f'budget: iterations = {self.iterations} and epochs = {self.epochs}: set one of both.')
        for name in ('iterations', 'epochs', 'samples', 'batch_size', 'lr'):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ConfigError(f'budget: {name} = {value!r} must be a positive number.')
        if not 0 < self.held_out < 1:
            raise ConfigError(f'budget: held_out = {self.held_out!r} must lie between 0 and 1.')


class ShortTrainings:
    """Trains genotypes for a given number of iterations; each (genotype, iterations) once.

    Args:
        pieces: Builds networks from genotypes, as their trainings start.
        images: (N, C, H, W), in an order in which the classes are mixed; the last ones are held out.
        labels: (N,).
        budget: See :class:`Budget`.
        fixed_blocks: Blocks are not trained.
        seed: Of order and random numbers.
        log: See :class:`~mmreuse.reassembly.search.score_log.ScoreLog`.

    Attributes:
        iterations: That may be made in all.
        made: Iterations made by this process.

    Raises:
        DataError: There are too few images.
        ArtefactError: ``log`` belongs to others.
    """

    def __init__(self, pieces: ComponentCache, images: Tensor, labels: Tensor, budget: Budget, *,
                 fixed_blocks: bool = False, seed: int = 0, log: str | Path | None = None) -> None:
        held_out = round(budget.held_out * len(images))
        if held_out < 1 or len(images) - held_out < 2:
            raise DataError(f'{len(images)} images are too few to train on and to hold out {held_out}.')
        self.pieces, self.budget, self.fixed_blocks, self.seed = pieces, budget, fixed_blocks, seed
        (self.images, self.validation), (self.labels, self.answers) = (
            (each[:-held_out], each[-held_out:]) for each in (images, labels))
        per_epoch = math.ceil(len(self.images) / budget.batch_size)
        self.iterations = round(budget.iterations or budget.epochs * per_epoch)
        self.made = 0
        self._log = ScoreLog(log, lambda: dict(
            data=state_hash(dict(images=images, labels=labels)), fixed_blocks=fixed_blocks, training_seed=seed,
            training=[budget.batch_size, budget.lr, budget.weight_decay, budget.held_out], **pieces.facts()))

    def score(self, genotype: Genotype, iterations: int) -> float:
        """Return the accuracy on the images held out, in [0, 1], after ``iterations``; NaN if the training fails."""
        return self._log.get(genotype, iterations, lambda: self._train(genotype, iterations))

    def _train(self, genotype: Genotype, iterations: int) -> float:
        network = copy_model(self.pieces.build(genotype))
        for step in network.steps:
            step.requires_grad_(not (self.fixed_blocks and step.key[0] == 'block'))
        self.made += iterations
        if not train_briefly(network, self.images, self.labels, iterations, self.budget, self.seed):
            return math.nan
        return accuracy(network, (self.validation, self.answers))


def train_briefly(network: nn.Module, images: Tensor, labels: Tensor, iterations: int, budget: Budget,
                  seed: int = 0) -> bool:
    """Train the parameters of a classifier that require gradients, in place; return whether the loss stayed finite.

    Args:
        network: From images to scores.
        images: (N, C, H, W).
        labels: (N,).
        iterations: Steps of AdamW, at a rate that rises for a tenth of them and falls along a cosine to nothing.
        budget: Gives batch size, rate and weight decay.
        seed: Of order and random numbers.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, budget.lr, weight_decay=budget.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, iterations))
    draws = Draws(len(images), budget.batch_size, seed)
    with kept_modes(network), torch.enable_grad(), frozen_random(seed):
        network.train()
        for _ in range(iterations):
            chosen = draws.draw()
            loss = F.cross_entropy(network(images[chosen]), labels[chosen])
            if not torch.isfinite(loss):
                return False
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return True


def halve(candidates: Sequence[Candidate], trainings: ShortTrainings,
          callback: Callable[[int, int, Candidate], None] | None = None) -> tuple[Candidate, ...]:
    """Rank candidates by trainings whose length doubles as their number halves, each round on an equal share of all.

    Args:
        candidates: Best first by what is known of them, which decides between equal accuracies.
        trainings: Trains them.
        callback: After every training: how many are done, how many there will be, and the best of its round so far.

    Returns:
        tuple: All candidates, those that were trained longest first, and of these the most accurate.

    Raises:
        ConfigError: The budget does not give each candidate one iteration.
    """
    counts = _rounds(len(candidates))
    if trainings.iterations < len(counts) * len(candidates):
        raise ConfigError(f'budget: {trainings.iterations} iterations are too few for {len(candidates)} candidates in '
                          f'{len(counts)} rounds; at least {len(counts) * len(candidates)} are needed.')
    alive, dropped, done = list(candidates), [], 0
    for count in counts:
        dropped = alive[count:] + dropped
        length = trainings.iterations // (len(counts) * count)
        scored = []
        for candidate in alive[:count]:
            accuracy = trainings.score(candidate.genotype, length)
            scored.append(replace(candidate, scores={**candidate.scores, TRAINED: accuracy}))
            done += 1
            if callback is not None:
                callback(done, sum(counts), max(scored, key=_accuracy))
        alive = sorted(scored, key=_accuracy, reverse=True)  # stable: of equals the one that was ahead
    return (*alive, *dropped)


def _accuracy(candidate: Candidate) -> float:
    accuracy = candidate.scores[TRAINED]
    return -math.inf if math.isnan(accuracy) else accuracy


def _rounds(count: int) -> list[int]:
    """Return the number of candidates of each round, down to two."""
    counts = [count]
    while counts[-1] > 2:
        counts.append(math.ceil(counts[-1] / 2))
    return counts
