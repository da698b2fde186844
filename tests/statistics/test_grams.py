"""Grams made minibatch by minibatch hold what the features held."""
import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.statistics.grams import GramAccumulator, collect_grams, pool


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 1)).double().float()


def collect(inputs: torch.Tensor, loader_batch: int, gram_batch: int):
    return collect_grams(net(), inputs.split(loader_batch), ['1', '3'], ['nchw'] * 3, batch=gram_batch)


def uncentred(grams, row: int, index: int) -> torch.Tensor:
    cross = grams.cross[row, index].double()
    return grams.centred[row, index].double() + cross + cross[:, None] + grams.mean_square[row, index].double()


def test_uncentred_gram_is_recovered_when_means_are_far_from_zero():
    features = [torch.randn(20, 7) * 0.1 + 100, torch.randn(20, 3)]
    accumulator = GramAccumulator(2, batch=10)
    accumulator.update(features)
    grams = accumulator.result()
    assert grams.centred.shape == (2, 2, 10, 10)
    for row, values in enumerate(features):
        half = values[10:].double()
        torch.testing.assert_close(uncentred(grams, row, 1), half @ half.T, rtol=1e-6, atol=1e-6)
        centred = half - half.mean(0)
        torch.testing.assert_close(grams.centred[row, 1].double(), centred @ centred.T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('steps', [[20], [3, 10, 7], [1] * 20, [9, 11]])
def test_minibatches_do_not_depend_on_how_the_rows_come(steps):
    features = torch.randn(20, 5)
    accumulator = GramAccumulator(1, batch=8)
    for rows in features.split(steps):
        accumulator.update([rows])
    grams = accumulator.result()
    assert grams.sizes == (8, 8, 4)
    tail = features[16:] - features[16:].mean(0)
    torch.testing.assert_close(grams.centred[0, 2, :4, :4], tail @ tail.T)
    assert grams.centred[0, 2, 4:].abs().max() == 0 and grams.cross[0, 2, 4:].abs().max() == 0


def test_too_short_a_tail_is_left_out_and_logged(caplog):
    accumulator = GramAccumulator(1, batch=8)
    accumulator.update([torch.randn(11, 5)])
    assert accumulator.result().sizes == (8,)
    assert 'last 3 samples' in caplog.text


def test_constant_features_have_no_gram():
    accumulator = GramAccumulator(1, batch=8)
    accumulator.update([torch.full((8, 9), 0.1)])
    assert accumulator.result().centred.abs().max() == 0


@pytest.mark.parametrize(('layout', 'shape', 'positions'), [
    ('nchw', (2, 3, 4, 5), (2, 3)), ('nhwc', (2, 4, 5, 3), (1, 2)), ('nlc', (2, 20, 3), (1,)), ('nchw', (2, 3), ())])
def test_pooling_averages_positions(layout, shape, positions):
    features = torch.randn(shape)
    expected = features.mean(positions) if positions else features
    torch.testing.assert_close(pool(features, layout), expected)


def test_hooks_see_the_input_of_the_first_node_and_every_output():
    inputs = torch.randn(12, 3, 6, 6)
    model = net().eval()
    grams = collect(inputs, 5, 6)
    with torch.no_grad():
        first = model[0](inputs)
        second = model[1](first)
        third = model[3](model[2](second))
    for row, features in enumerate((first, second, third)):
        pooled = features.mean((2, 3))[6:]
        pooled = pooled - pooled.mean(0)
        torch.testing.assert_close(grams.centred[row, 1], pooled @ pooled.T)


def test_modes_and_hooks_are_left_as_they_were():
    model = net()
    model.train()
    model[2].eval()
    collect_grams(model, [(torch.randn(8, 3, 6, 6), torch.zeros(8))], ['1'], ['nchw'] * 2, batch=4)
    assert [module.training for module in model] == [True, True, False, True]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model)
    assert model[2].num_batches_tracked == 0


class Split(nn.Module):

    def forward(self, x, hw=None):
        return x * 2, hw


def test_tuple_outputs_count_with_their_first_item():
    class Net(nn.Module):

        def __init__(self):
            super().__init__()
            self.split = Split()

        def forward(self, x):
            return self.split(x=x, hw=(2, 2))[0]

    grams = collect_grams(Net(), [torch.randn(4, 4, 3)], ['split'], ['nlc', 'nlc'], batch=4)
    torch.testing.assert_close(grams.centred[1], 4 * grams.centred[0])


def test_not_finite_features_name_node_and_batch():
    inputs = torch.randn(12, 3, 6, 6)
    inputs[7, 0, 0, 0] = float('nan')
    with pytest.raises(DataError, match="batch 1: the input of '1' is not finite"):
        collect(inputs, 5, 6)


def test_what_cannot_be_observed_is_an_error():
    inputs = torch.randn(4, 3, 6, 6)
    with pytest.raises(DataError, match='empty'):
        collect_grams(net(), [], ['1'], ['nchw'] * 2)
    with pytest.raises(DataError, match='a batch of type dict holds no images'):
        collect_grams(net(), [dict(img=inputs)], ['1'], ['nchw'] * 2)
    with pytest.raises(ConfigError, match="'layer9' is not a module of Sequential"):
        collect_grams(net(), [inputs], ['layer9'], ['nchw'] * 2)
    with pytest.raises(ConfigError, match='1 layouts for 1 nodes'):
        collect_grams(net(), [inputs], ['1'], ['nchw'])
    with pytest.raises(ConfigError, match="layout 'chw'"):
        collect_grams(net(), [inputs], ['1'], ['chw'] * 2)
    with pytest.raises(ConfigError, match='at least 4'):
        collect_grams(net(), [inputs], ['1'], ['nchw'] * 2, batch=3)
    spare = net()
    spare.add_module('unused', nn.Conv2d(3, 3, 1))
    spare.forward = lambda x: spare[1](spare[0](x))
    with pytest.raises(DataError, match="ran without its output of 'unused'"):
        collect_grams(spare, [inputs], ['1', 'unused'], ['nchw'] * 3)


def _collect_on_rank(rank: int, world: int, store: str, results) -> None:
    torch.distributed.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=world)
    torch.set_num_threads(1)
    inputs = torch.randn(23, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    grams = collect(inputs, 5, 4)
    inputs[9] = float('nan')
    try:
        collect(inputs, 5, 4)
        message = 'none'
    except DataError as error:
        message = str(error)
    results[rank] = (grams.centred, grams.cross, grams.mean_square, grams.sizes, message)
    torch.distributed.destroy_process_group()


def test_two_ranks_make_the_same_grams_and_hear_of_each_others_errors(tmp_path):
    inputs = torch.randn(23, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    alone = collect(inputs, 5, 4)
    results = mp.Manager().dict()
    mp.start_processes(_collect_on_rank, (2, str(tmp_path / 'store'), results), nprocs=2, start_method='fork')
    for rank in range(2):
        centred, cross, mean_square, sizes, message = results[rank]
        torch.testing.assert_close(centred, alone.centred)
        torch.testing.assert_close(cross, alone.cross)
        torch.testing.assert_close(mean_square, alone.mean_square)
        assert sizes == alone.sizes == (4, 4, 4, 4, 4)
        assert 'batch 1' in message and 'not finite' in message
