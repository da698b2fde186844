"""Every job that renormalizes calibrates by name."""
import copy

import pytest
import torch
from torch import nn

from mmreuse.calibration import Source
from mmreuse.engine.jobs import renormalize
from mmreuse.errors import ConfigError
from mmreuse.graph import Permute, transform, verified
from mmreuse.merging import PreserveFirst, merge
from mmreuse.modularization import AppliedModule, ModuleHead, compact
from mmreuse.pruning import prune
from mmreuse.renormalization import apply_renormalizers, auto

from .nets import SMALL, error, tiny

CALIBRATE = dict(type='calibrate', ridge=1e-4)


def shuffled_pair() -> tuple[nn.Module, nn.Module]:
    """A network and the same in another order."""
    graph = verified(tiny(), SMALL[:1])
    maps = {name: Permute(torch.randperm(space.size)) for name, space in graph.spaces.items() if space.blocks is None}
    return graph.model, transform(graph, maps)


def harmed(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1 + torch.rand(len(parameter), *[1] * (parameter.dim() - 1)))
    return twin


@pytest.mark.parametrize('place', [dict(heads='merge'), dict(start=0.3, stop=0.7)])
def test_merged_networks_are_calibrated_by_name(place):
    network, other = shuffled_pair()
    merged = merge([network, other], SMALL.split(16), 'permute', inputs=SMALL[:1], renormalizers=[CALIBRATE], **place)
    wanted = network(SMALL).detach()
    with torch.no_grad():
        outputs = merged(SMALL)
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        torch.testing.assert_close(output, wanted, rtol=1e-3, atol=1e-3)


def test_merges_that_preserve_a_front_are_calibrated_by_name():
    graphs = [verified(each, SMALL[:1]) for each in shuffled_pair()]
    test = [(SMALL, torch.zeros(len(SMALL), dtype=torch.long))]
    study = PreserveFirst(graphs, dict(weights='identity'), SMALL.split(16))
    wanted = graphs[0].model(SMALL).detach()
    starts = [None, 'layer2.0.conv1', 'layer3.0']
    for place in study.places(starts, test):
        plain = place.merge('weights')
        refitted = place.renormalized(plain, 'weights', CALIBRATE)
        with torch.no_grad():
            one, two = (each(next(iter(place.test))[0]) for each in (plain, refitted))
        assert float((two - wanted).norm()) < 0.7 * float((one - wanted).norm()), place.start


def test_auto_considers_calibration_where_sources_are_known():
    network = tiny()

    def nearness(other):
        return -error(other, network, SMALL)

    with_sources, without = harmed(network), harmed(network)
    choice = auto(with_sources, SMALL, sources=[Source(network)], score=nearness)
    assert choice.name == 'calibrate' and error(with_sources, network, SMALL) < 0.01
    assert 'calibrate' not in auto(without, SMALL, score=nearness, candidates=None).scores
    [choice] = apply_renormalizers(harmed(network), SMALL, 'auto', sources=[Source(network)], score=nearness)
    assert choice.name == 'calibrate'


def test_the_job_calibrates_to_the_networks_behind_the_first():
    network = tiny()
    repaired = renormalize([harmed(network), network], images=SMALL, renormalizers=[CALIBRATE])
    assert error(repaired, network, SMALL) < 0.01 < error(harmed(network), network, SMALL)
    with pytest.raises(ConfigError, match='was made of'):
        renormalize([network], images=SMALL, renormalizers=['calibrate'])


@pytest.mark.parametrize('form', ['applied', 'sequential'])
def test_modules_are_calibrated_to_their_base_and_compacted(form):
    """Zeros stay zeros."""
    base, head = tiny(), ModuleHead(5, 2)
    masked = prune(base, None, 0.6)
    module = AppliedModule(masked, dict(problem=head)) if form == 'applied' else nn.Sequential(masked, head)
    wanted = nn.Sequential(base, head)
    refitted = renormalize([module.eval(), base], images=SMALL, renormalizers=[dict(type='calibrate', ridge=0.01)])
    assert error(refitted, wanted, SMALL) < 0.7 * error(module, wanted, SMALL)
    kept = dict(module.named_parameters())
    assert all(bool((tensor[kept[name] == 0] == 0).all()) for name, tensor in refitted.named_parameters()
               if tensor.dim() > 1)
    assert error(compact(refitted, SMALL[:1]), refitted, SMALL) < 1e-5
