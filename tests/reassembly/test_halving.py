"""Successive halving: who is trained for how long, and that real trainings are reproducible and resumed."""
import json
import math
from types import SimpleNamespace

import pytest
import torch
from tiny_zoo import make_partition, make_zoo, resnet

from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.genotype import Rules
from mmreuse.reassembly.search.halving import TRAINED, Budget, ShortTrainings, halve
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.search.search import search
from mmreuse.reassembly.search.trellis import build_assemblies
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.reassembly.zoo.structures import Candidate

SIZE = (8, 8)


def recorded(worth, iterations):
    """Trainings that take no time, and a list of them."""
    done = []

    def score(genotype, length):
        done.append((genotype, length))
        return worth(genotype, length)

    return SimpleNamespace(score=score, iterations=iterations), done


def named(count):
    return [Candidate(number, 0, 0, {'first': -number}) for number in range(count)]


def test_half_go_on_for_twice_as_long_and_the_budget_is_kept():
    trainings, done = recorded(lambda number, length: number / 100, 160)
    told = []
    ranked = halve(named(8), trainings, lambda *progress: told.append(progress))
    lengths = {length: sorted(number for number, each in done if each == length) for _, length in done}
    assert lengths == {6: list(range(8)), 13: [4, 5, 6, 7], 26: [6, 7]}
    assert sum(length for _, length in done) <= 160
    assert [each.genotype for each in ranked] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert ranked[0].scores == {'first': -7, TRAINED: 0.07}
    assert [(done, planned) for done, planned, _ in told] == [(number, 14) for number in range(1, 15)]


def test_equals_keep_their_order_and_failures_go_first():
    trainings, _ = recorded(lambda number, length: math.nan if number == 0 else 0.5, 100)
    assert [each.genotype for each in halve(named(4), trainings)] == [1, 2, 3, 0]
    trainings, done = recorded(lambda number, length: 0.5, 7)
    assert [each.genotype for each in halve(named(1), trainings)] == [0] and done == [(0, 7)]


@pytest.fixture(scope='module')
def ground(tmp_path_factory):
    zoo = make_zoo(tmp_path_factory.mktemp('zoo'), resnet('narrow', 2), resnet('wide', 3))
    partition, nodes = make_partition(zoo)
    assemblies = build_assemblies(partition, CostTable(zoo, nodes, 5, SIZE), Rules(stem='cifar'))
    torch.manual_seed(0)
    labels = torch.arange(40) % 5
    images = torch.randn(40, 3, *SIZE) / 4 + labels[:, None, None, None]
    return assemblies, ComponentCache(zoo, nodes, 5), images, labels


def trainings(ground, **options):
    budget = Budget(**{'iterations': 24, 'batch_size': 8, 'lr': 0.01, **options.pop('budget', {})})
    return ShortTrainings(*ground[1:], budget, **options)


def test_a_search_ranks_by_real_trainings_and_a_killed_one_goes_on(ground, tmp_path):
    assemblies, pieces, images, labels = ground
    before = {name: tensor.clone() for name, tensor in pieces.stem(2, 'cifar').state_dict().items()}
    log = tmp_path / 'trainings.jsonl'

    def run(each):
        return search(assemblies, Scorer(pieces, [(images, labels)]), trainings=each)

    first = trainings(ground, log=log)
    result = run(first)
    assert result.proxy == TRAINED and result.exhaustive and 2 < len(result.candidates) == result.feasible
    accuracies = [each.scores[TRAINED] for each in result.candidates[:2]]
    assert accuracies == sorted(accuracies, reverse=True) and all({'ridge_probe', TRAINED} == set(each.scores)
                                                                  for each in result.candidates)
    assert 0 < first.made <= 24
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(''.join(lines[:3]) + lines[3][:9])
    again = trainings(ground, log=log)
    assert run(again) == result and 0 < again.made < first.made
    assert [json.loads(line) for line in log.read_text().splitlines()] == [json.loads(line) for line in lines]
    with pytest.raises(ArtefactError, match='another proxy, data, zoo or seed'):
        trainings(ground, log=log, seed=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pieces.stem(2, 'cifar').state_dict().items())


def test_training_pays_and_fixed_blocks_stay(ground):
    genotype = ground[0].genotype(tuple(row[0].target for row in ground[0].choices))
    free, fixed = (trainings(ground, fixed_blocks=each) for each in (False, True))
    assert free.score(genotype, 30) > free.score(genotype, 1)
    assert free.score(genotype, 30) != fixed.score(genotype, 30)
    assert math.isnan(trainings(ground, budget=dict(lr=1e30)).score(genotype, 5))


def test_a_budget_that_cannot_be_spent_is_refused(ground):
    for options, message in ((dict(), 'set one of both'), (dict(iterations=3, epochs=1), 'set one of both'),
                             (dict(epochs=-1), 'epochs = -1'), (dict(epochs=1, lr=0), 'lr = 0'),
                             (dict(epochs=1, held_out=1), 'held_out = 1')):
        with pytest.raises(ConfigError, match=message):
            Budget(**options)
    with pytest.raises(DataError, match='2 images are too few'):
        ShortTrainings(ground[1], ground[2][:2], ground[3][:2], Budget(epochs=1))
    with pytest.raises(ConfigError, match='20 iterations are too few for 8 candidates in 3 rounds; at least 24'):
        halve(named(8), recorded(lambda *_: 0., 20)[0])
    assert trainings(ground, budget=dict(iterations=None, epochs=2.5)).iterations == 10
