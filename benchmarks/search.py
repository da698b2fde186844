"""The published reassembly search beside ours: same blocks, budget, proxy and images.

The reference shuffles all blocks, fills empty positions without looking, and replaces a block
where the whole network then scores higher; it starts anew ten times. It is spared the building of
a whole network for every block: both take blocks out of their networks once. ``*_evaluations`` count
runs of the proxy, one network on one batch each; scores are means over all batches.
"""
import random
import time

import torch
import torch.nn.functional as F
from _common import parse_args, write
from sklearn.datasets import load_digits

from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.genotype import Rules, stitch
from mmreuse.reassembly.search.bounds import Bounds
from mmreuse.reassembly.search.scoring import Scorer
from mmreuse.reassembly.search.search import search
from mmreuse.reassembly.search.trellis import build_assemblies
from mmreuse.reassembly.zoo.costs import CostTable
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.structures import Block, Genotype, Partition
from mmreuse.reassembly.zoo.zoo import parse_zoo
from mmreuse.registry import PROXIES
from mmreuse.utils.cost.complexity import count_macs, count_params

SIZE, CLASSES, BATCHES, BATCH, STAGES, RESTARTS = (16, 16), 10, 5, 32, 4, 10
RULES = Rules(stem='cifar', match_resolution=False)

#: Of the 30 720 assemblies the loose budget admits two thirds, the tight one a quarter.
BUDGETS = dict(loose=Bounds(max_params=150_000, max_flops=4_000_000), tight=Bounds(
    min_params=50_000, max_params=120_000, max_flops=2_500_000))

CASES = [('naswot', 'loose', 0), ('naswot', 'loose', 1), ('naswot', 'tight', 0), ('naswot-normalised', 'loose', 0),
         ('snip', 'loose', 0)]

PROXY_OPTIONS = {'naswot-normalised': dict(type='naswot', normalise=True)}


def make_ground():
    """Eight residual networks of differing depth and width, random weights, cut evenly into blocks."""
    zoo = parse_zoo(
        dict(key=f'd{depth}w{width}', library='local', model='CifarResNet', input_size=SIZE,
             args=dict(depth=depth, width=width, num_classes=CLASSES),
             nodes=[f'layer{stage}.{i}' for stage in (1, 2, 3) for i in range((depth - 2) // 6)])
        for depth in (14, 20) for width in (4, 8, 12, 16))
    nodes = {key: member_nodes(entry) for key, entry in zoo.items()}
    blocks = {}
    for key, row in nodes.items():
        ends = [round(len(row) * stage / STAGES) for stage in range(STAGES + 1)]
        blocks[key] = tuple(Block(key, ends[i], ends[i + 1] - 1, i, i) for i in range(STAGES))
    partition = Partition(STAGES, 0.2, 'nodes', 'cka', 0.0, blocks, next(iter(blocks.values())),
                          {key: tuple(node.name for node in row) for key, row in nodes.items()})
    return zoo, nodes, partition


def make_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    digits = load_digits()
    images = torch.from_numpy(digits.images[:BATCHES * BATCH]).float()[:, None].expand(-1, 3, -1, -1) / 8 - 1
    images = F.interpolate(images, SIZE)
    labels = torch.from_numpy(digits.target[:BATCHES * BATCH])
    return list(zip(images.split(BATCH), labels.split(BATCH), strict=True))


class ReferenceSearch:
    """Random restarts of fill and replace; a network is counted and scored anew for every replacement.

    Strides are drawn with every network: 1 with probability 0.9, else 2. What made the original
    crash or report a network that it had not scored is left out.
    """

    def __init__(self, zoo, nodes, partition, batches, proxy: dict, bounds: Bounds, seed: int) -> None:
        self.nodes, self.bounds, self.batches = nodes, bounds, batches
        self.pieces = ComponentCache(zoo, nodes, CLASSES, pretrained=False)
        # Sets list their anchor twice.
        self.blocks = [block for row in partition.blocks.values() for block in row] + list(partition.anchors)
        self.proxy = PROXIES.build(proxy)
        self.random = random.Random(seed)
        self.evaluations = 0

    def run(self) -> float:
        """Best score over all restarts."""
        return max(self.restart() for _ in range(RESTARTS))

    def restart(self) -> float:
        order = self.random.sample(self.blocks, len(self.blocks))
        chosen: list[Block | None] = [None] * STAGES
        best = -float('inf')
        for block in order:
            if chosen[block.stage] is None:
                chosen[block.stage] = block
                continue
            candidate = [*chosen]
            candidate[block.stage] = block
            if None in candidate:
                continue
            score = self.score(candidate)
            if score > best:
                best, chosen = score, candidate
        return best

    def score(self, blocks: list[Block]) -> float:
        """Mean score over the batches; minus infinity beyond the budget."""
        ends = [(self.nodes[b.model][b.first], self.nodes[b.model][b.last]) for b in blocks]
        adapters = tuple(stitch(before[1], after[0], 1 if self.random.random() < 0.9 else 2, RULES)
                         for before, after in zip(ends, ends[1:], strict=False))
        genotype = Genotype(tuple(blocks), adapters, ends[0][0].in_channels, stem=RULES.stem)
        net = self.pieces.build(genotype)
        params, flops = count_params(net), count_macs(net, (3, *SIZE))
        if not (self.bounds.min_params < params <= self.bounds.max_params and flops <= self.bounds.max_flops):
            return -float('inf')
        self.evaluations += BATCHES
        return sum(self.proxy(net, images, labels) for images, labels in self.batches) / BATCHES


def compare(ground, batches, proxy: str, bounds: Bounds, seed: int) -> dict[str, float]:
    """Both searches from scratch, our cost table included."""
    zoo, nodes, partition = ground
    options = PROXY_OPTIONS.get(proxy, dict(type=proxy))
    reference = ReferenceSearch(zoo, nodes, partition, batches, options, bounds, seed)
    start = time.perf_counter()
    reference_score = reference.run()
    reference_s = time.perf_counter() - start

    start = time.perf_counter()
    assemblies = build_assemblies(partition, CostTable(zoo, nodes, CLASSES, SIZE), RULES)
    scorer = Scorer(ComponentCache(zoo, nodes, CLASSES, pretrained=False), batches, options)
    # Halving gives a candidate about two of the five batches, so this is less than a tenth of the evaluations; but a
    # model needs some twenty candidates, also where the budget refuses most of what the reference builds.
    planned = max(20, reference.evaluations // 24)
    result = search(assemblies, scorer, bounds, num_candidates=planned, finalists=2, seed=seed)
    ours_s = time.perf_counter() - start
    ours_score = result.candidates[0].scores[scorer.name]
    return dict(
        reference_s=reference_s, ours_s=ours_s, ratio=reference_s / ours_s, reference_score=reference_score,
        ours_score=ours_score, reference_evaluations=reference.evaluations, ours_evaluations=scorer.evaluations,
        evaluations_ratio=reference.evaluations / scorer.evaluations, feasible=result.feasible)


def main() -> None:
    args = parse_args(__doc__)
    torch.set_num_threads(1)
    ground, batches = make_ground(), make_batches()
    write(args.out, {f'{proxy}, {budget} budget, seed {seed}': compare(ground, batches, proxy, BUDGETS[budget], seed)
                     for proxy, budget, seed in CASES})


if __name__ == '__main__':
    main()
