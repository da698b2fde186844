"""Collecting moments through hooks, against features kept and computed in float64."""
import os
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import trace
from mmreuse.statistics import collect, collect_taps
from mmreuse.statistics.passes import images_of


def tap(module, size, side='output', dim=1, index=None):
    index = torch.arange(size) if index is None else torch.tensor(index)
    return SimpleNamespace(module=module, side=side, dim=dim, index=index)


def make_net(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(),
                         nn.Linear(width * 16, 5))


def make_batches(count=4, size=7, seed=1):
    return list(torch.randn(count, size, 3, 4, 4, generator=torch.Generator().manual_seed(seed)))


def reference(rows):
    rows = rows.double()
    centred = rows - rows.mean(0)
    return rows.mean(0), centred.T @ centred / len(rows)


def assert_moments(moments, rows):
    mean, covariance = reference(rows)
    assert moments.count == len(rows)
    torch.testing.assert_close(moments.mean, mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(moments.covariance, covariance, rtol=1e-5, atol=1e-7)


def to_rows(features):
    return features.movedim(1, -1).flatten(0, -2)


def test_moments_of_several_taps_in_one_pass():
    net, batches = make_net().train(), make_batches()
    moments = collect_taps(net, batches, {'relu': tap('2', 6), 'head': tap('4', 5), 'image': tap('0', 3, side='input')})
    images = torch.cat(batches)
    with torch.no_grad():
        net.eval()
        assert_moments(moments['relu'], to_rows(net[:3](images)))
        assert_moments(moments['head'], net(images))
    assert_moments(moments['image'], to_rows(images))


def test_modes_come_back_and_hooks_go_even_after_an_error():
    net = make_net().train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(DataError):
        collect_taps(net, [], {'a': tap('2', 6)})
    collect_taps(net, make_batches(1), {'a': tap('2', 6)})
    assert net.training and net[0].training and not net[1].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_repeated_members_are_more_positions():
    """The flattened map shows every channel 16 times; its moments are those of the map."""
    net, batches = make_net(), make_batches()
    channel_of = torch.arange(6).repeat_interleave(16).tolist()
    moments = collect_taps(net, batches, {'map': tap('2', 6), 'flat': tap('4', 6, side='input', index=channel_of)})
    assert moments['flat'].count == moments['map'].count
    torch.testing.assert_close(moments['flat'].covariance, moments['map'].covariance, rtol=1e-6, atol=1e-8)


def test_places_without_a_member_are_left_out():
    net, batches = make_net(), make_batches()
    moments = collect_taps(net, batches, {'some': tap('2', 6, index=[1, -1, 0, -1, -1, 2])})
    whole = collect_taps(net, batches, {'all': tap('2', 6)})['all']
    torch.testing.assert_close(moments['some'].mean, whole.mean[[2, 0, 5]], rtol=1e-6, atol=1e-7)


def test_several_taps_of_a_space_are_pooled():
    net, batches = make_net(), make_batches()
    moments = collect_taps(net, batches, {'space': [tap('0', 6), tap('2', 6)]})
    with torch.no_grad():
        net.eval()
        images = torch.cat(batches)
        assert_moments(moments['space'], torch.cat([to_rows(net[:1](images)), to_rows(net[:3](images))]))


def test_joint_moments_of_several_models_are_those_of_concatenated_features():
    nets, batches = [make_net(0), make_net(1), make_net(2, width=4)], make_batches()
    moments = collect_taps(nets, batches, [{'relu': tap('2', net[0].out_channels)} for net in nets])
    with torch.no_grad():
        rows = torch.cat([to_rows(net.eval()[:3](torch.cat(batches))) for net in nets], dim=1)
    assert moments['relu'].covariance.shape == (16, 16)
    assert_moments(moments['relu'], rows)


def test_joint_moments_of_a_model_with_itself_agree_block_by_block_under_position_sampling():
    net = make_net()
    taps = {'relu': tap('2', 6)}
    covariance = collect_taps([net, net], make_batches(), [taps, taps], positions=5)['relu'].covariance
    blocks = covariance.unfold(0, 6, 6).unfold(1, 6, 6)
    torch.testing.assert_close(blocks, blocks[:1, :1].expand_as(blocks), rtol=1e-5, atol=1e-8)


def test_position_sampling_is_seeded_bounded_and_unbiased():
    net, batches = make_net(), make_batches(count=40, size=16)
    taps = {'relu': tap('2', 6), 'head': tap('4', 5)}
    whole = collect_taps(net, batches, taps)
    first, again, other = (collect_taps(net, batches, taps, positions=4, seed=seed) for seed in (0, 0, 1))
    assert first['relu'].count == 640 * 4 and first['head'].count == 640
    assert torch.equal(first['relu'].covariance, again['relu'].covariance)
    assert not torch.equal(first['relu'].covariance, other['relu'].covariance)
    deviation = (first['relu'].mean - whole['relu'].mean) / whole['relu'].covariance.diagonal().sqrt()
    assert deviation.abs().max() < 5 / (640 * 4) ** 0.5
    torch.testing.assert_close(collect_taps(net, batches, taps, positions=16)['relu'].mean, whole['relu'].mean)


def test_positions_differ_from_sample_to_sample():
    positions = torch.arange(16.).reshape(1, 1, 4, 4).expand(50, 1, 4, 4)
    net = nn.Sequential(nn.Identity())
    moments = collect_taps(net, [positions], {'position': tap('0', 1)}, positions=1)['position']
    assert moments.covariance.item() > 5  # 21.25 for a uniform draw, 0 if all samples shared it


def test_windows_of_an_image_belong_to_one_sample():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x):  # (B, 3, 4, 4) -> (B * 2, 8, 3): two windows of eight tokens
            return self.inner(x.flatten(2).transpose(1, 2).reshape(-1, 8, 3))

    batches = make_batches()
    taps = {'tokens': tap('inner', 3, dim=-1)}
    assert collect_taps(Windows(), batches, taps, positions=3)['tokens'].count == 28 * 3
    assert_moments(collect_taps(Windows(), batches, taps)['tokens'], to_rows(torch.cat(batches)))


def test_budget_is_kept_to_the_sample_and_no_batch_is_drawn_in_vain():
    drawn = []

    class Loader:
        def __iter__(self):
            for batch in make_batches():
                drawn.append(len(batch))
                yield batch

    net = make_net()
    moments = collect_taps(net, Loader(), {'head': tap('4', 5), 'relu': tap('2', 6)}, samples=14)
    assert moments['head'].count == 14 and moments['relu'].count == 14 * 16
    assert sum(drawn) == 14
    with torch.no_grad():
        assert_moments(moments['head'], net.eval()(torch.cat(make_batches())[:14]))
    with pytest.raises(DataError, match='after 28 of 30 samples'):
        collect_taps(net, Loader(), {'head': tap('4', 5)}, samples=30)


def test_spaces_of_traced_networks_are_what_their_last_reader_sees():
    nets, batches = [make_net(0), make_net(1)], make_batches()
    graphs = [trace(net, batches[0][:1]) for net in nets]
    name, = graphs[0].spaces
    moments = collect(graphs, batches)
    assert list(moments) == [name]
    with torch.no_grad():
        rows = torch.cat([to_rows(net.eval()[:3](torch.cat(batches))) for net in nets], dim=1)
    assert_moments(moments[name], rows)
    single = collect(graphs[1], batches, spaces=[name])
    torch.testing.assert_close(moments[name].covariance[6:, 6:], single[name].covariance, rtol=1e-5, atol=1e-8)


def test_unknown_and_unobservable_spaces_are_named():
    graph = SimpleNamespace(model=make_net(), spaces={
        'inner': SimpleNamespace(taps=(tap('0', 6), tap('2', 6)), size=6, group='permutation'),
        'blind': SimpleNamespace(taps=(), group='permutation')})
    assert list(collect(graph, make_batches())) == ['inner']
    with pytest.raises(SpaceError, match="'iner' is not a feature space.*'inner'"):
        collect(graph, make_batches(), spaces=['iner'])
    with pytest.raises(SpaceError, match="'blind' cannot be observed"):
        collect(graph, make_batches(), spaces=['blind'])


def test_errors_name_the_tap_and_come_with_the_first_batch():
    net, batches = make_net(), make_batches()
    poisoned = [batches[0], batches[1].clone().fill_(float('nan'))]
    with pytest.raises(DataError, match=r"'relu' at tap '2' \(output\), batch 1: .*not finite"):
        collect_taps(net, poisoned, {'relu': tap('2', 6)})
    with pytest.raises(ConfigError, match="'2x' is not a module of Sequential. Nearest: '2'"):
        collect_taps(net, batches, {'relu': tap('2x', 6)})
    with pytest.raises(ConfigError, match="side 'outputs'"):
        collect_taps(net, batches, {'relu': tap('2', 6, side='outputs')})
    with pytest.raises(SpaceError, match='6 channels were observed, 7 were expected'):
        collect_taps(net, batches, {'relu': tap('2', 7)})
    with pytest.raises(SpaceError, match='no channel dimension 4'):
        collect_taps(net, batches, {'relu': tap('2', 6, dim=4)})
    with pytest.raises(SpaceError, match='equally often'):
        collect_taps(net, batches, {'relu': tap('2', 6, index=[0, 0, 1, 1, 1, 2])})
    with pytest.raises(ConfigError, match='positions = 0'):
        collect_taps(net, batches, {'relu': tap('2', 6)}, positions=0)
    net.unused = nn.Identity()
    net.forward = lambda x: x
    with pytest.raises(SpaceError, match="never observed: 'idle'"):
        collect_taps(net, batches, {'idle': tap('unused', 6)})


def test_joint_models_of_different_resolution_are_refused():
    nets = [nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Sequential(nn.Conv2d(3, 4, 1, stride=2))]
    with pytest.raises(SpaceError, match='112, 28 rows'):
        collect_taps(nets, make_batches(), [{'x': tap('0', 4)}] * 2)


def test_batches_of_every_kind_become_images():
    images, labels = torch.rand(2, 3, 4, 4), torch.zeros(2)
    model = nn.Identity()
    for batch in (images, (images, labels), [images, labels], dict(inputs=images), dict(inputs=list(images))):
        assert torch.equal(images_of(batch, model), images)
    model.data_preprocessor = lambda data, training: dict(inputs=data['inputs'] * 2, training=training)
    assert torch.equal(images_of(dict(inputs=images), model), images * 2)
    assert torch.equal(images_of((images, labels), model), images)
    for bad, message in ((dict(pixels=images), 'dict holds no images'), (None, 'NoneType'), (images[:0], 'is empty'),
                         (images.byte(), 'uint8')):
        with pytest.raises(DataError, match=message):
            images_of(bad, nn.Identity())


def _collect_in_process(rank, port, folder):
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', rank=rank, world_size=2)
    # The second process has a batch less than the first.
    moments = collect_taps(make_net(), make_batches(count=5)[rank::2], {'relu': tap('2', 6)}, positions=5)['relu']
    torch.save(vars(moments), f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_one_and_two_processes_agree(tmp_path):
    import socket
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_collect_in_process, (port, tmp_path), nprocs=2)
    alone = collect_taps(make_net(), make_batches(count=5), {'relu': tap('2', 6)}, positions=5)['relu']
    for rank in range(2):
        shared = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        assert shared['count'] == alone.count
        torch.testing.assert_close(shared['mean'], alone.mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(shared['covariance'], alone.covariance, rtol=1e-10, atol=1e-12)
