"""Passes over data that are dealt out to processes: every sample counts once, whatever the sampler repeats."""
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets.samplers import SequentialSampler
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from mmreuse.errors import DataError
from mmreuse.merging import evaluate_together
from mmreuse.statistics import collect_bn, collect_taps
from mmreuse.statistics.cached_loader import CachedLoader
from mmreuse.statistics.evaluate import accuracy
from mmreuse.statistics.passes import own_samples

SAMPLERS = {
    'mmengine': lambda data: DefaultSampler(data, shuffle=False),
    'mmengine, shuffled': lambda data: DefaultSampler(data, shuffle=True, seed=3),
    'mmengine, not rounded': lambda data: DefaultSampler(data, shuffle=False, round_up=False),
    'mmpretrain, in chunks': lambda data: SequentialSampler(dataset=data, subsample_type='sequential'),
    'torch': lambda data: DistributedSampler(data, shuffle=True, seed=5),
}


def tap(module, size):
    return SimpleNamespace(module=module, side='output', dim=1, index=torch.arange(size))


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                         nn.Linear(96, 5)).double()


def dataset(samples=21):
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(samples, 3, 4, 4, generator=generator, dtype=torch.float64),
                         torch.randint(5, (samples,), generator=generator))


def measured(make_sampler):
    """What several passes say: moments of a space, of the first norm's input, accuracy and loss."""
    data, net = dataset(), make_net()
    loader = DataLoader(data, 4, sampler=None if make_sampler is None else make_sampler(data))
    moments = collect_taps(net, loader, {'relu': tap('2', 6)})['relu']
    norm = collect_bn(net, CachedLoader(loader, net))['1']
    return [moments.count, moments.mean, moments.covariance, norm.count, norm.mean, norm.variance,
            accuracy(net, loader), *evaluate_together([net], loader)[0].values()]


def _measure_on_rank(rank, store, results):
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    torch.set_num_threads(1)
    results[rank] = [measured(make) for make in SAMPLERS.values()]
    torch.distributed.destroy_process_group()


def test_two_processes_agree_with_one_where_the_data_do_not_divide(tmp_path):
    alone = measured(None)
    results = mp.Manager().dict()
    mp.start_processes(_measure_on_rank, (str(tmp_path / 'store'), results), nprocs=2, start_method='fork')
    for rank in range(2):
        for name, found in zip(SAMPLERS, results[rank], strict=True):
            torch.testing.assert_close(found, alone, rtol=1e-7, atol=1e-9, msg=partial('{}: {}'.format, name))


@pytest.mark.parametrize('world', [1, 2, 3, 7])
@pytest.mark.parametrize('samples', [7, 21, 22])
def test_shares_add_up_to_all_samples(world, samples):
    data, shares = dataset(samples), []
    for rank in range(world):
        sampler = DistributedSampler(data, world, rank, shuffle=False)
        shares.append(own_samples(DataLoader(data, 4, sampler=sampler)))
        assert shares[-1] is None or len(sampler) - shares[-1] in (0, 1)
    assert world == 1 or sum(shares) == samples


def test_loaders_that_repeat_nothing_are_left_alone():
    data = dataset(4)
    assert own_samples([data.tensors[0]]) is None and own_samples(DataLoader(data, 2)) is None
    with pytest.raises(DataError, match='4 samples for 5 processes'):
        own_samples(DataLoader(data, 2, sampler=DistributedSampler(data, 5, 0)))


def test_a_share_of_each_batch_size_is_cut_to_the_sample():
    data = dataset(5)
    for size in (1, 2, 3, 8):
        sampler = DistributedSampler(data, 2, 1, shuffle=False)
        moments = collect_taps(nn.Identity(), DataLoader(data, size, sampler=sampler), {'x': tap('', 3)})['x']
        assert moments.count == 2 * 16 and math.isclose(
            float(moments.mean[0]), float(data.tensors[0][1::2, 0].mean()), rel_tol=1e-5)
