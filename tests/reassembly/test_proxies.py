"""Training-free proxies: what each must not depend on, what it must depend on, and that it leaves no trace."""
import copy
import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mmreuse.reassembly.search.proxies  # noqa: F401
from mmreuse.errors import ConfigError, DataError
from mmreuse.reassembly.search.proxies.naswot import AgreementKernel, recording
from mmreuse.registry import PROXIES

ALL = ['naswot', 'synflow', 'snip', 'grad_norm', 'fisher', 'jacov', 'ntk']


class Tokens(nn.Module):
    """A map as a sequence of tokens through a linear layer, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.proj, self.act, self.drop = nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.act(self.proj(x.flatten(2).transpose(1, 2)))).mean(1)


def small_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
                         nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.LeakyReLU(0.1), Tokens(), nn.Linear(8, 5))


def batch(size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 3, 16, 16, generator=generator), torch.arange(size) % 5


@pytest.mark.parametrize('name', ALL)
def test_a_score_leaves_the_model_as_it_was(name):
    model = small_net()
    model.train()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    for options in ({}, dict(compat=True)):
        PROXIES.build(dict(type=name, **options))(model, *batch())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training and not model[4].training and model[5].training and model[1].track_running_stats
    assert not model[0].weight.requires_grad and model[3].weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize('name', ALL)
def test_a_score_is_deterministic_whatever_mode_and_running_statistics(name):
    model, other = small_net().train(), small_net().eval()
    if name != 'synflow':  # which sees no data and so must take the stored variance
        other[1].running_mean.fill_(3)
        other[1].running_var.fill_(7)
    proxy = PROXIES.get(name)
    score = proxy(model, *batch())
    assert math.isfinite(score)
    assert proxy(model, *batch()) == score == proxy(other, *batch())


@pytest.mark.parametrize('name', ALL)
def test_the_order_of_units_does_not_matter(name):
    model = small_net()
    permuted, order = copy.deepcopy(model), torch.tensor([3, 0, 5, 1, 4, 2])
    for key in ('0.weight', '1.weight', '1.bias'):
        permuted.state_dict()[key].copy_(model.state_dict()[key][order])
    permuted[3].weight.data = model[3].weight.data[:, order].clone()
    proxy = PROXIES.get(name)
    assert proxy(permuted, *batch()) == pytest.approx(proxy(model, *batch()), rel=1e-4)


def test_naswot_is_the_determinant_of_the_agreement_of_all_units():
    model, (images, _) = small_net(), batch()
    outputs = []
    for index in (2, 5):
        model[index].register_forward_hook(lambda m, i, o: outputs.append(o.clone()))
    for module in (*(m for m in model[6].modules() if m is not model[6]), model[7]):
        module.register_forward_hook(lambda m, i, o: outputs.append(o.clone()))
    model.train()
    model[6].drop.eval()
    with torch.no_grad():
        model(images)
    kernel = torch.zeros(6, 6, dtype=torch.float64)
    for output in outputs:
        x = (output > 0).double().flatten(1)
        kernel += x @ x.T + (1 - x) @ (1 - x).T
    expected = torch.linalg.slogdet(kernel).logabsdet.item() / 6
    fresh = small_net()
    assert PROXIES.get('naswot')(fresh, images) == pytest.approx(expected, abs=1e-12)
    units = sum(output[0].numel() for output in outputs)
    normalised = PROXIES.get('naswot')(fresh, images, normalise=True)
    assert normalised == pytest.approx(expected - math.log(units), abs=1e-9)


def test_of_shifted_windows_the_outer_attention_counts_once():
    from mmpretrain.models.utils import ShiftWindowMSA
    torch.manual_seed(0)
    attention = ShiftWindowMSA(embed_dims=4, num_heads=2, window_size=2)
    counted = []
    kernel = AgreementKernel(3)
    kernel.add = lambda output: counted.append(output.shape)
    with torch.no_grad(), recording(attention, kernel):
        attention(torch.randn(3, 16, 4), (4, 4))
    linear = [(12, 4, 12), (12, 4, 4)]  # qkv and projection of the windows
    dropout = [(12, 2, 4, 4), (12, 4, 4)]
    assert sorted(counted) == sorted([*map(torch.Size, linear + dropout), torch.Size((3, 16, 4))])


def test_published_synflow_is_the_flow_in_train_mode():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    expected = copy.deepcopy(net).double().train()
    for parameter in expected.parameters():
        parameter.data.abs_()
    expected(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum().backward()
    flow = sum((p.detach() * p.grad).abs().sum().item() for p in expected.parameters())
    assert PROXIES.get('synflow')(net, torch.randn(2, 3, 8, 8), compat=True) == pytest.approx(flow, rel=1e-9)


def test_published_fisher_sums_what_follows_the_second_dimension():
    net = nn.Sequential(nn.Flatten(2), nn.Linear(9, 5), nn.Flatten(), nn.Linear(15, 2))
    images, labels = torch.randn(4, 3, 3, 3), torch.tensor([0, 1, 0, 1])
    tokens = net[1](images.flatten(2)).detach().requires_grad_()  # (4, 3 tokens, 5 channels)
    logits = net[3](tokens.flatten(1))
    logits.retain_grad()
    F.cross_entropy(logits, labels).backward()
    by_token = (tokens * tokens.grad).sum(2).square().mean(0).sum() / 2
    by_logit = (logits * logits.grad).square().mean(0).sum() / 2
    expected = (by_token + by_logit).item()
    assert PROXIES.get('fisher')(net, images, labels, compat=True) == pytest.approx(expected, rel=1e-5)
    assert PROXIES.get('fisher')(net, images, labels) != pytest.approx(expected, rel=1e-3)


def test_naswot_of_relus_alone_does_not_see_linear_layers():
    images, _ = batch()
    model = small_net()
    relus = nn.Sequential(*model[:6], Tokens(), nn.Linear(8, 50))
    score = PROXIES.get('naswot')
    assert score(model, images, units='relu') == score(relus, images, units='relu')
    assert score(model, images) != score(relus, images)


def test_images_that_switch_all_units_alike_make_the_kernel_singular():
    images, _ = batch()
    images[1] = images[0]
    assert PROXIES.get('naswot')(small_net(), images) == -math.inf


@pytest.mark.parametrize('windows', [1, 4])
def test_an_agreement_kernel_takes_windows_folded_into_the_batch(windows):
    activations = torch.randn(6, windows, 3, 5)
    kernel, folded = AgreementKernel(6), AgreementKernel(6)
    kernel.add(activations)
    folded.add(activations.reshape(6 * windows, 3, 5))
    assert torch.equal(kernel.matrix, folded.matrix) and kernel.units == folded.units == 15 * windows
    with pytest.raises(DataError, match='not of 6 images'):
        kernel.add(torch.zeros(5, 3))


def test_synflow_is_finite_sees_no_data_and_grows_with_the_weights():
    model, (images, _) = small_net(), batch()
    synflow = PROXIES.get('synflow')
    score = synflow(model, images)
    assert math.isfinite(score) and synflow(model, images * 100 + 7) == score
    flipped = copy.deepcopy(model)
    for parameter in flipped.parameters():
        parameter.data.neg_()
    assert synflow(flipped, images) == score
    flipped[7].weight.data.mul_(3)
    assert synflow(flipped, images) > score


def test_synflow_of_a_linear_chain_is_the_product_of_its_layers():
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Flatten(), nn.Linear(12, 7, bias=False), nn.Linear(7, 4, bias=False))
    passed = (chain[2].weight.abs() @ chain[1].weight.abs()).double().sum().item()
    # Each of the two layers contributes the whole flow once.
    assert PROXIES.get('synflow')(chain, torch.zeros(1, 3, 2, 2)) == pytest.approx(math.log(2 * passed), rel=1e-6)


def test_snip_and_grad_norm_follow_their_definition_and_snip_vanishes_with_the_weights():
    model, (images, labels) = small_net(), batch()
    twin = copy.deepcopy(model).train()
    twin[6].drop.eval()
    F.cross_entropy(twin(images), labels).backward()
    gradients = [(p.detach().double(), p.grad.double()) for p in twin.parameters()]
    expected = sum((p * g).abs().sum() for p, g in gradients).item()
    assert PROXIES.get('snip')(model, images, labels) == pytest.approx(expected, rel=1e-5)
    norm = math.sqrt(sum(g.square().sum() for _, g in gradients))
    assert PROXIES.get('grad_norm')(model, images, labels) == pytest.approx(norm, rel=1e-5)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert PROXIES.get('snip')(model, images, labels) == 0


def test_fisher_sums_over_positions_for_maps_and_for_tokens():
    torch.manual_seed(0)
    images, labels = batch()
    pointwise = nn.Conv2d(3, 4, 1)
    head = nn.Linear(4, 5)

    class AsTokens(nn.Module):

        def __init__(self) -> None:
            super().__init__()
            self.linear, self.head = nn.Linear(3, 4), head
            self.linear.weight.data = pointwise.weight.data[:, :, 0, 0]
            self.linear.bias.data = pointwise.bias.data

        def forward(self, x):
            return self.head(self.linear(x.flatten(2).transpose(1, 2)).square().mean(1))

    class AsMaps(AsTokens):

        def forward(self, x):
            return self.head(pointwise(x).square().mean((2, 3)))

    maps = AsMaps()
    maps.pointwise = pointwise
    fisher = functools.partial(PROXIES.get('fisher'), images=images, labels=labels)
    assert fisher(AsTokens()) == pytest.approx(fisher(maps), rel=1e-5) and fisher(maps) > 0


def test_jacov_is_bounded_by_uncorrelated_jacobians_and_nan_for_constant_ones():
    model, (images, _) = small_net(), batch()
    best = -len(images) * (math.log(1 + 1e-5) + 1 / (1 + 1e-5))
    assert PROXIES.get('jacov')(model, images) < best
    constant = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    constant[2].weight.data.fill_(1)
    assert math.isnan(PROXIES.get('jacov')(constant, images))


def test_ntk_of_a_linear_model_is_the_gram_of_its_inputs():
    torch.manual_seed(0)
    images = torch.randn(4, 3, 2, 2)
    rows = torch.cat([images.flatten(1), torch.ones(4, 1)], 1).double()
    kernel = 5 * rows @ rows.T  # five outputs, each with the gradient (x, 1)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    eigenvalues = torch.linalg.eigvalsh(kernel)
    ntk = PROXIES.get('ntk')
    assert ntk(linear, images) == pytest.approx(-math.log10(eigenvalues[-1] / eigenvalues[0]), rel=1e-5)
    assert ntk(linear, images, metric='trace') == pytest.approx(math.sqrt(kernel.trace() / 4), rel=1e-5)
    assert ntk(linear, torch.cat([images, images])) == -math.inf


def test_what_cannot_be_scored_is_said():
    images, labels = batch()
    for name in ('snip', 'grad_norm', 'fisher'):
        with pytest.raises(ConfigError, match=f"'{name}'.*needs labels"):
            PROXIES.get(name)(small_net(), images)
    for name in set(ALL) - {'synflow'}:
        with pytest.raises(DataError, match='NaN or infinite'):
            PROXIES.get(name)(small_net(), images * math.nan, labels)
    with pytest.raises(ConfigError, match="units 'silu'. Nearest: 'relu'"):
        PROXIES.get('naswot')(small_net(), images, units='silu')
    with pytest.raises(DataError, match='no .relu. units'):
        PROXIES.get('naswot')(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), images, units='relu')
    with pytest.raises(ConfigError, match="metric = 'rank'"):
        PROXIES.get('ntk')(small_net(), images, metric='rank')


def test_a_proxy_is_one_decorated_function():

    @PROXIES.register_module(name='test_width')
    def width(model, images, labels=None, *, factor=1):
        return factor * sum(p.numel() for p in model.parameters())

    try:
        assert PROXIES.build(dict(type='test_width', factor=2))(nn.Linear(2, 3), None) == 18
    finally:
        PROXIES._module_dict.pop('test_width')
