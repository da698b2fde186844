"""The search for the assembled networks that a proxy likes best within a budget.

What the program calls best under a first guess, and random assemblies, are scored; a linear
model learns from the scores, and the program finds what that model wants to see next, so the
proxy runs on few of the many assemblies. Successive halving gives more batches only to those in the lead.
"""
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmreuse.errors import ConfigError
from mmreuse.graph import Size
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.search.assembly_milp import AssemblyMILP
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.reassembly.search.halving import TRAINED, ShortTrainings, halve
from mmreuse.reassembly.search.paths import Path
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.search.surrogate import LinearGuide
from mmreuse.reassembly.search.trellis import Assemblies
from mmreuse.reassembly.zoo.structures import Candidate
from mmreuse.utils.cost.latency import measure_latency

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchResult:
    """Result of a search."""
    proxy: str  # name of the score that ranks
    candidates: tuple[Candidate, ...]  # scored on all batches, best first, NaN last
    pareto: tuple[Candidate, ...]  # of these: none has a higher score, fewer parameters and fewer FLOPs
    screened: tuple[Candidate, ...]  # scored on fewer batches, best first
    evaluations: int  # runs of the proxy, one candidate on one batch each, resumed ones included
    feasible: int | None  # assemblies within the bounds, where they could be enumerated
    exhaustive: bool  # every feasible assembly was scored on all batches


@dataclass(frozen=True)
class Progress:
    """Progress that the callback is told after every round, and after every training."""
    scored: int
    planned: int
    best: Candidate


class _Search:
    """State of one search: the scored paths and how many batches each has seen."""

    def __init__(self, assemblies: Assemblies, scorer: Scorer, program: AssemblyMILP, planned: int,
                 callback: Callable[[Progress], None] | None) -> None:
        self.assemblies, self.scorer, self.program = assemblies, scorer, program
        self.planned, self.callback = planned, callback
        self.batches: dict[Path, int] = {}

    def score(self, paths: Sequence[Path], batches: int) -> None:
        """Score on the first ``batches`` batches; in lexicographic order, so that prefixes are shared."""
        for batch in range(batches):
            for path in sorted(paths):
                if self.batches.get(path, 0) <= batch:
                    self.scorer.score(self.assemblies.genotype(path), batch)
                    self.batches[path] = batch + 1
        if self.callback is not None and paths:
            best = self.ranked(list(self.batches), 1)[0]
            self.callback(Progress(len(self.batches), self.planned, self.candidate(best, 1)))

    def mean(self, path: Path, batches: int) -> float:
        return self.scorer.mean(self.assemblies.genotype(path), batches)

    def ranked(self, paths: Sequence[Path], batches: int) -> list[Path]:
        """Best first by the mean of the first ``batches`` batches, NaN last, ties in lexicographic order."""

        def order(path: Path) -> tuple:
            score = self.mean(path, batches)
            return math.isnan(score), 0.0 if math.isnan(score) else -score, path

        return sorted(paths, key=order)

    def candidate(self, path: Path, batches: int) -> Candidate:
        params, flops, latency = self.assemblies.total(path)
        return Candidate(self.assemblies.genotype(path), params, flops, {self.scorer.name: self.mean(path, batches)},
                         latency or None)

    def explore(self, values: list[np.ndarray], seed: int) -> None:
        """Score ``planned`` paths on the first batch: first guesses, then what the model asks for."""
        rng = np.random.default_rng(seed)
        guide = LinearGuide(self.assemblies, values)
        self.score(_first_guesses(self.program, values, rng, math.ceil(self.planned / 3)), 1)
        per_round = math.ceil(self.planned / 9)
        while len(self.batches) < self.planned:
            count = min(per_round, self.planned - len(self.batches))
            known = list(self.batches)
            scores = [self.mean(path, 1) for path in known]
            if np.isfinite(scores).any():
                guide.fit(known, scores)
                proposals = self._proposals(guide, self.ranked(known, 1)[0], rng, count)
            else:
                proposals = self.program.sample(rng, self.planned)
            fresh = [path for path in proposals if path not in self.batches][:count]
            if not fresh:
                break
            self.score(fresh, 1)

    def _proposals(self, guide: LinearGuide, leader: Path, rng: np.random.Generator, count: int) -> list[Path]:
        """Return the best candidates by the model: in draws (half), near the leader (a quarter), and on the mean."""
        fresh: list[Path] = []

        def add(values: list[np.ndarray], number: int) -> None:
            fresh.extend(self.program.best(values, number, exclude=[*self.batches, *fresh]))

        for _ in range(count // 2):
            add(guide.values(rng), 1)
        mean = guide.values()
        spread = sum(np.ptp(row) for row in mean) or 1.0
        add([row + spread * _same_block(self.assemblies, leader, position) for position, row in enumerate(mean)],
            count // 4)
        add(mean, count - len(fresh))
        return fresh

    def halve(self, finalists: int) -> list[Path]:
        """Drop the worse half, give the others twice the batches, until ``finalists`` have all."""
        alive, batches = list(self.batches), 1
        while batches < self.scorer.num_batches:
            keep = max(finalists, math.ceil(len(alive) / 2))
            alive = self.ranked(alive, batches)[:keep]
            batches = min(2 * batches, self.scorer.num_batches) if keep > finalists else self.scorer.num_batches
            self.score(alive, batches)
        return self.ranked(alive, batches)


def search(assemblies: Assemblies, scorer: Scorer, bounds: Bounds | None = None, *,
           values: list[np.ndarray] | None = None, num_candidates: int = 100, finalists: int = 10, seed: int = 0,
           method: str = 'auto', trainings: ShortTrainings | None = None,
           callback: Callable[[Progress], None] | None = None) -> SearchResult:
    """Find the assemblies of highest score within the bounds.

    Where there are no more than ``num_candidates`` feasible ones, all are scored on all
    batches and the result is exact.

    Args:
        assemblies: What may be built (:func:`~mmreuse.reassembly.search.trellis.build_assemblies`).
        scorer: Proxy and batches.
        bounds: Budget.
        values: First guess, e.g. :func:`~mmreuse.reassembly.search.trellis.surrogate_values`; without, the first
            candidates are random.
        num_candidates: Assemblies that the proxy may see.
        finalists: At least so many are scored on all batches.
        seed: Of random candidates and of the model's draws.
        method: 'auto', 'enumerate' or 'milp', see :class:`~mmreuse.reassembly.search.assembly_milp.AssemblyMILP`.
        trainings: Rank those that were scored on all batches anew, by successive halving on short trainings (see
            :func:`~mmreuse.reassembly.search.halving.halve`).
        callback: Called after every round of scores, and after every training.

    Returns:
        SearchResult: Equal for equal arguments; a log of the scorer changes how long it takes, not what comes out.

    Raises:
        ConfigError: Bad options, or a latency bound without measured latency.
        InfeasibleError: Nothing is within the bounds.
    """
    if num_candidates < 1 or finalists < 1:
        raise ConfigError(f'search: num_candidates = {num_candidates} and finalists = {finalists} must be positive')
    program = _program(assemblies, bounds, method)
    program.check()
    feasible = len(program.feasible) if program.enumerable else None
    run = _Search(assemblies, scorer, program, min(num_candidates, feasible or num_candidates), callback)
    exhaustive = feasible is not None and feasible <= num_candidates
    if exhaustive:
        run.score([tuple(map(int, path)) for path in program.feasible], scorer.num_batches)
        complete = run.ranked(list(run.batches), scorer.num_batches)
    else:
        run.explore(values or _no_guess(assemblies), seed)
        complete = run.halve(finalists)
    candidates = tuple(run.candidate(path, scorer.num_batches) for path in complete)
    if not math.isfinite(candidates[0].scores[scorer.name]):
        logger.warning('no candidate has a finite %s; the ranking says nothing', scorer.name)
    left = set(run.batches) - set(complete)
    screened = tuple(run.candidate(path, 1) for path in run.ranked(list(left), 1))
    name = scorer.name
    if trainings is not None:
        tell = callback and (lambda done, planned, best: callback(Progress(done, planned, best)))
        name, candidates = TRAINED, halve(candidates, trainings, tell)
    return SearchResult(name, candidates, pareto_front(candidates, name), screened,
                        sum(run.batches.values()), feasible, exhaustive)


def random_assembly(assemblies: Assemblies, bounds: Bounds | None = None, seed: int = 0) -> Candidate:
    """Return a random assembly within the bounds: the baseline a search must beat.

    Raises:
        InfeasibleError: Nothing is within the bounds.
    """
    program = _program(assemblies, bounds, 'auto')
    program.check()
    path, = program.sample(np.random.default_rng(seed), 1)
    params, flops, latency = assemblies.total(path)
    return Candidate(assemblies.genotype(path), params, flops, {}, latency or None)


def like(candidate: Candidate, tolerance: float = 0.1) -> Bounds:
    """Return the budget of networks as large and as costly as ``candidate``, within ``tolerance`` of both."""
    low, high = 1 - tolerance, 1 + tolerance
    return Bounds(min_params=low * candidate.params, max_params=high * candidate.params,
                  min_flops=low * candidate.flops, max_flops=high * candidate.flops)


def pareto_front(candidates: Sequence[Candidate], proxy: str) -> tuple[Candidate, ...]:
    """Return the candidates that no other beats in score, parameters and FLOPs at once, in the order given.

    One beats another if it is at least as good in all three and better in one; a score of NaN is beaten by any.
    """
    if not candidates:
        return ()
    table = np.array([[-c.scores[proxy], c.params, c.flops] for c in candidates], float)
    table[np.isnan(table)] = np.inf
    front = []
    for i, row in enumerate(table):
        beaten = ((table <= row).all(1) & (table < row).any(1)).any()
        if not beaten and np.isfinite(row[0]):
            front.append(candidates[i])
    return tuple(front)


def time_candidates(result: SearchResult, pieces: ComponentCache, input_size: Size, top: int = 10,
                    repeats: int = 20) -> SearchResult:
    """Return the result with the ``top`` candidates' latencies measured on whole networks, in turn.

    Args:
        result: What a search found.
        pieces: Builds the networks, on the device to time.
        input_size: Height and width of the images.
        top: How many, from the best down.
        repeats: Timed passes of each.
    """
    nets = {str(rank): pieces.build(c.genotype) for rank, c in enumerate(result.candidates[:top])}
    images = torch.zeros(1, pieces.in_channels, *input_size, device=pieces.device)
    measured = measure_latency(nets, images, repeats=repeats)
    timed = [replace(candidate, latency=measured[str(rank)].median) if str(rank) in measured else candidate
             for rank, candidate in enumerate(result.candidates)]
    return replace(result, candidates=tuple(timed), pareto=pareto_front(timed, result.proxy))


def _program(assemblies: Assemblies, bounds: Bounds | None, method: str) -> AssemblyMILP:
    bounds = bounds or Bounds()
    timed = any(choices.costs[:, 2].any() for choices in assemblies.lattice.positions)
    if not timed and any(name.endswith('latency') for name in bounds.given):
        raise ConfigError('bounds: latency is bounded but was not measured; build the cost table with latency=True')
    return AssemblyMILP(assemblies.lattice, bounds, method)


def _first_guesses(program: AssemblyMILP, values: list[np.ndarray], rng: np.random.Generator, count: int) -> list[Path]:
    """Half the best by value, half random, so that the model also sees what the guess does not like."""
    informed = any(np.ptp(row) > 0 for row in values if len(row))
    best = program.best(values, count // 2) if informed else []
    rest = [path for path in program.sample(rng, count) if path not in set(best)]
    return best + rest[:count - len(best)]


def _no_guess(assemblies: Assemblies) -> list[np.ndarray]:
    return [np.zeros(len(choices)) for choices in assemblies.choices]


def _same_block(assemblies: Assemblies, leader: Path, position: int) -> np.ndarray:
    """1 where a choice takes the leader's block at this position, else 0."""
    choices, states = assemblies.choices[position], assemblies.states[position]
    block = states[choices[leader[position]].target].block
    return np.array([float(states[choice.target].block == block) for choice in choices])
