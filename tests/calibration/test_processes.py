"""Memory, interruptions and processes make no difference to what comes out."""
import copy

import pytest
import torch
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate
from mmreuse.calibration.stepwise import Stepwise
from mmreuse.calibration.walk import Walk
from mmreuse.errors import ConfigError


class Residual(nn.Module):
    """Branches, in-place operations, batch norms and attention on small images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(6))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for one, two in zip(self.convs[::2], self.convs[1::2], strict=True):
            x += two(one(x).relu_())
        tokens = self.norm(x.flatten(2).mT)
        return self.head((tokens + self.attention(tokens, tokens, tokens)[0]).mean(1))


def pair() -> tuple[Residual, Residual, Tensor]:
    """A network with weights that were disturbed, its source, and images."""
    torch.manual_seed(0)
    source, images = Residual(), torch.randn(60, 3, 10, 10)
    source(images)
    network = copy.deepcopy(source).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * parameter.std(correction=0) * torch.randn(parameter.shape)
    return network, source.eval(), images


def refitted(images: object, **options) -> dict[str, Tensor]:
    network, source, _ = pair()
    calibrate(network, [Source(source)], images, positions=20, **options)
    return network.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Of what the networks compute, relative to that."""
    network, _, images = pair()
    for name, module in network.named_modules():
        if f'{name}.bias' in one and module.bias is None:
            module.bias = nn.Parameter(torch.zeros_like(one[f'{name}.bias']))
    outputs = []
    for state in (one, other):
        network.load_state_dict(state)
        outputs.append(network(images).detach())
    return float((outputs[0] - outputs[1]).norm() / outputs[1].norm())


def test_less_memory_gives_the_same_bytes_and_none_is_refused(monkeypatch):
    images, reached, advance = pair()[2].split(10), [], Stepwise.advance

    def watched(run, index, room):
        advance(run, index, room)
        reached.append(run._held == index)

    monkeypatch.setattr(Stepwise, 'advance', watched)
    whole = refitted(images)
    assert all(reached)
    for megabytes in (3, 2.4):
        assert same(whole, refitted(images, memory_limit=megabytes * 2**20)), megabytes
        assert not all(reached)
        reached.clear()
    with pytest.raises(ConfigError, match='needs at least .* more than the 0 MiB allowed'):
        refitted(images, memory_limit=4e5)
    with pytest.raises(ConfigError, match='memory_limit=-1'):
        refitted(images, memory_limit=-1)


def test_batches_and_order_hardly_matter():
    images = pair()[2]
    one, other = refitted(images.split(7), ridge=0.01), refitted(images.flip(0).split(20), ridge=0.01)
    assert difference(one, other) < 1e-5


def test_what_is_interrupted_leaves_the_network_as_it_is_and_goes_on(tmp_path, monkeypatch):
    network, source, images = pair()
    before, fit, solved = copy.deepcopy(network.state_dict()), Walk._fit, []

    def interrupted(walk, problem):
        if len(solved) == 9:
            raise KeyboardInterrupt
        solved.append(problem.name)
        fit(walk, problem)

    monkeypatch.setattr(Walk, '_fit', interrupted)
    options = dict(positions=20, cache_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        calibrate(network, [Source(source)], images, **options)
    assert same(before, network.state_dict())
    first, solved = len(solved), []
    monkeypatch.setattr(Walk, '_fit', lambda walk, problem: (solved.append(problem.name), fit(walk, problem)))
    report = calibrate(network, [Source(source)], images, **options)
    assert len(solved) == len(report.fits) - 8 and first == 9
    assert same(refitted(images), network.state_dict())
    solved.clear()
    again = pair()[0]
    assert str(calibrate(again, [Source(source)], images, **options)) == str(report) and not solved
    calibrate(pair()[0], [Source(source)], images, **options, ridge=0.1)
    assert len(solved) == len(report.fits)


def in_a_group(rank: int, folder: str) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    state = refitted(pair()[2][rank::2])
    torch.save(state, f'{folder}/{rank}.pt')


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(in_a_group, (str(tmp_path), ), 2)
    first, second = (torch.load(tmp_path / f'{rank}.pt') for rank in range(2))
    assert same(first, second)
    assert difference(first, refitted(pair()[2])) < 1e-5
