"""Groups of feature spaces are those of known networks and are proved; the canonical form is exact."""
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from space_models import CifarResNet
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from mmreuse.errors import SpaceError
from mmreuse.graph import canonicalize, random_maps, trace, transform, verified
from mmreuse.graph.symmetry import flow

IMAGE = torch.zeros(1, 3, 16, 16, dtype=torch.float64)


def bare_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(16, 8, 2, 3, 24, 36, num_classes=5)


class Attention(nn.Module):
    """One head over rows, with or without norms of queries and keys."""

    def __init__(self, norm: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(6, 6) for _ in range(4))
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        scores = self.norm(self.query(x)) @ self.norm(self.key(x)).transpose(1, 2)
        return self.out(scores.softmax(-1) @ self.value(x))


class WrittenOut(nn.Module):
    """A stream whose norm is written in simple operations, after T5."""

    def __init__(self, gain: bool) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(3, 6), nn.Linear(6, 7)
        self.outer, self.last = nn.Linear(7, 6), nn.Linear(6, 2)
        self.gain = nn.Parameter(torch.ones(6)) if gain else None

    def norm(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x if self.gain is None else self.gain * x

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.norm(x + self.outer(self.inner(self.norm(x)).tanh())))


class Pieces(nn.Module):
    """A linear layer whose halves take different ways to one layer that reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, -1)
        return self.last(torch.cat([left.relu(), right], -1))


class Gated(nn.Module):
    """Products of two layers that carry the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


def mlp(activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 8), activation, nn.Linear(8, 2))


def convolutions(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), *between, nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


ROWS, TOKENS, SMALL = torch.zeros(2, 3), torch.zeros(1, 5, 6), torch.zeros(1, 3, 8, 8)
GROUPS = {
    'relu': (mlp(nn.ReLU()), ROWS, {'0': 'scaled'}),
    'leaky relu': (mlp(nn.LeakyReLU()), ROWS, {'0': 'scaled'}),
    'prelu': (mlp(nn.PReLU(8)), ROWS, {'0': 'scaled'}),
    'gelu': (mlp(nn.GELU()), ROWS, {'0': 'permutation'}),
    'relu6': (mlp(nn.ReLU6()), ROWS, {'0': 'permutation'}),
    'linear bottleneck': (mlp(nn.Identity()), ROWS, {'0': 'invertible'}),
    'dropout and reshape': (mlp(nn.Sequential(nn.Dropout(), nn.Unflatten(1, (8, 1)), nn.Flatten())), ROWS,
                            {'0': 'invertible'}),
    'layer norm with a gain': (mlp(nn.LayerNorm(8)), ROWS, {'0': 'scaled'}),
    'bare layer norm': (mlp(nn.LayerNorm(8, elementwise_affine=False)), ROWS, {'0': 'orthogonal'}),
    'bare RMS norm': (mlp(nn.RMSNorm(8, elementwise_affine=False)), ROWS, {'0': 'orthogonal'}),
    'max pooling': (convolutions(nn.MaxPool2d(2)), SMALL, {'0': 'scaled'}),
    'mean pooling': (convolutions(nn.AvgPool2d(2)), SMALL, {'0': 'invertible'}),
    'batch norm': (convolutions(nn.BatchNorm2d(6), nn.ReLU()), SMALL, {'0': 'scaled'}),
    'bare batch norm': (convolutions(nn.BatchNorm2d(6, affine=False), nn.ReLU()), SMALL, {'0': 'permutation'}),
    'group norm': (convolutions(nn.GroupNorm(1, 6), nn.ReLU()), SMALL, {'0': 'scaled'}),
    'resnet': (CifarResNet(1, 4), SMALL,
               {'conv1': 'scaled', 'layer1.0.conv1': 'scaled', 'layer2.0.conv1': 'scaled'}),
    'attention': (Attention(), TOKENS, {'query': 'invertible', 'value': 'invertible'}),
    'cosine attention': (Attention(lambda x: nn.functional.normalize(x, dim=-1)), TOKENS,
                         {'query': 'orthogonal', 'value': 'invertible'}),
    'attention of rectified queries': (Attention(nn.functional.relu), TOKENS, {'query': 'scaled'}),
    'norm written out': (WrittenOut(gain=False), ROWS, {'first': 'orthogonal'}),
    'norm written out, with a gain': (WrittenOut(gain=True), ROWS, {'first': 'permutation'}),
    'pieces': (Pieces(), ROWS, {'first:0': 'scaled', 'first:1': 'invertible'}),
    'gated': (Gated(), ROWS, {'gate': 'permutation'}),
    'weight norm': (nn.Sequential(nn.Linear(3, 8), weight_norm(nn.Linear(8, 8)), nn.Linear(8, 2)), ROWS,
                    {'0': 'permutation'}),
    'transformer': (bare_vit(), IMAGE.float(), {'encoder.layers': 'permutation',
                                        'encoder.layers.encoder_layer_0.self_attention:0': 'invertible',
                                        'encoder.layers.encoder_layer_0.mlp.0': 'permutation'}),
}


def group_names(model: nn.Module, inputs: Tensor) -> dict[str, str]:
    return {name: space.group for name, space in trace(model, inputs).spaces.items()}


@pytest.mark.parametrize('case', GROUPS)
def test_groups_of_known_networks_are_found_and_proved(case: str) -> None:
    model, inputs, expected = GROUPS[case]
    graph = trace(model.eval(), inputs)
    found = {name: space.group for name, space in graph.spaces.items()}
    assert {name: found.get(name) for name in expected} == expected, found
    assert graph.verify().error < 1e-9


def test_layer_norm_keeps_the_mean_and_rms_norm_does_not() -> None:
    layer, rms = (trace(GROUPS[case][0], ROWS).spaces['0'] for case in ('bare layer norm', 'bare RMS norm'))
    assert layer.centred and not rms.centred
    turn = random_maps({'0': layer}, 0)['0'].merge_matrix
    assert torch.allclose(turn.sum(1), torch.ones(8, dtype=torch.float64))
    assert torch.allclose(turn @ turn.T, torch.eye(8, dtype=torch.float64))


def test_the_print_out_says_the_group() -> None:
    text = str(trace(GROUPS['bare layer norm'][0], ROWS))
    assert '0: 8 features, turned orthogonally, the mean kept' in text


@pytest.mark.parametrize('case,claim', [('gelu', 'scaled'), ('relu', 'orthogonal'), ('batch norm', 'invertible'),
                                        ('layer norm with a gain', 'orthogonal'), ('cosine attention', 'invertible')])
def test_a_group_that_is_too_large_is_refused(case: str, claim: str) -> None:
    model, inputs, expected = GROUPS[case]
    name = next(iter(expected))
    graph = trace(model.eval(), inputs)
    axes = tuple(replace(axis, signs=(-1 if axis.role == 'read' else 1,)) for axis in graph.spaces[name].axes)
    claimed = replace(graph, spaces={**graph.spaces, name: replace(graph.spaces[name], group=claim, axes=axes)})
    with pytest.raises(SpaceError, match=f"Any map that is not a permutation .{claim}. of feature space '{name}'"):
        claimed.verify()


def test_a_group_that_the_proof_refutes_is_made_smaller_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, 'LINEAR', flow.LINEAR | {'gelu'})
    model, inputs, _ = GROUPS['gelu']
    assert trace(model, inputs).spaces['0'].group == 'invertible'
    graph = verified(model, inputs)
    assert graph.spaces['0'].group == 'permutation'
    assert 'it is only permuted' in graph.report()
    assert graph.verify().error < 1e-9


# -- the canonical form --------------------------------------------------------------------


def hugging_face(name: str, **options: object) -> nn.Module:
    transformers = pytest.importorskip('transformers')
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=36, image_size=16,
                 patch_size=8)
    config = getattr(transformers, f'{name}Config')(**sizes, **options)

    class Scores(nn.Module):
        """The scores alone."""

        def __init__(self) -> None:
            super().__init__()
            self.network = getattr(transformers, f'{name}ForImageClassification')(config)

        def forward(self, pixel_values: Tensor) -> Tensor:
            return self.network(pixel_values=pixel_values).logits

    return Scores()


def mmpretrain_vit(**options: object) -> nn.Module:
    pytest.importorskip('mmpretrain')
    from mmpretrain.models import ImageClassifier
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=36)
    backbone = dict(type='VisionTransformer', arch=arch, img_size=16, patch_size=8, **options)
    return ImageClassifier(backbone, head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=24))


def timm_vit(name: str = 'vit_tiny_patch16_224', **options: object) -> nn.Module:
    sizes = dict(img_size=16, patch_size=8, embed_dim=24, num_heads=3, num_classes=5)
    return timm.create_model(name, **sizes, **{'depth': 2, **options})


TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    'torchvision vit': bare_vit,
    'timm vit': timm_vit,
    'timm deit3': lambda: timm_vit('deit3_small_patch16_224'),
    'timm beit': lambda: timm_vit('beit_base_patch16_224', init_values=1e-5),
    'timm cait': lambda: timm_vit('cait_xxs24_224', depth=1),
    'mmpretrain vit': lambda: mmpretrain_vit(layer_scale_init_value=1e-5),
    'transformers vit': lambda: hugging_face('ViT'),
    'transformers deit': lambda: hugging_face('DeiT'),
    'transformers beit': lambda: hugging_face('Beit'),
    'transformers dinov2': lambda: hugging_face('Dinov2'),
}


def randomised(model: nn.Module) -> nn.Module:
    """A network whose vectors are no more those of its initialisation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2 or bool((parameter == parameter.flatten()[0]).all()):
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    return model.double().eval()


@torch.no_grad()
def relative_change(model: nn.Module, other: nn.Module, inputs: Tensor) -> float:
    before, after = model(inputs), other(inputs)
    return float((before - after).abs().max() / before.abs().max())


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_the_canonical_form_of_transformers_is_exact(name: str) -> None:
    torch.manual_seed(0)
    model = randomised(TRANSFORMERS[name]())
    canonical = canonicalize(model, IMAGE)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert relative_change(model, canonical, images) < 1e-10
    graph = trace(canonical, IMAGE)
    stream = max(graph.spaces.values(), key=lambda space: len(space.axes))
    assert stream.group == 'orthogonal'
    assert group_names(model, IMAGE)[stream.name] == 'permutation'
    turned = transform(graph, random_maps(graph.spaces, 1))
    assert relative_change(model, turned, images) < 1e-9


def test_streams_are_centred_and_heads_balanced() -> None:
    canonical = canonicalize(randomised(bare_vit()), IMAGE)
    layer = canonical.encoder.layers[0]
    assert canonical.conv_proj.weight.sum(0).abs().max() < 1e-12
    assert layer.mlp[3].weight.sum(0).abs().max() < 1e-12
    assert layer.ln_1.weight is None and layer.ln_1.bias is None
    attention, width = layer.self_attention, 24  # balanced as for a stream of length 1, which layer norm makes sqrt(24)
    weight = torch.cat([attention.in_proj_weight * width ** 0.5, attention.in_proj_bias[:, None]], 1)
    query, key, _ = weight.reshape(3, 3, 8, width + 1)
    assert torch.allclose(query @ query.mT, key @ key.mT)


def test_units_under_relu_get_equal_norms_on_both_sides() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    canonical = canonicalize(model, ROWS.double())
    inside = torch.cat([canonical[0].weight, canonical[0].bias[:, None]], 1).norm(dim=1)
    assert torch.allclose(inside, canonical[2].weight.norm(dim=0))
    assert relative_change(model, canonical, torch.randn(4, 3, dtype=torch.float64)) < 1e-12


def test_it_works_in_place_and_leaves_the_original_alone_otherwise() -> None:
    model = randomised(bare_vit())
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert canonicalize(model, IMAGE) is not model
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert canonicalize(model, IMAGE, inplace=True) is model
    assert model.encoder.ln.weight is None


class PostNorm(nn.Module):
    """A norm whose result is read and added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 6), nn.LayerNorm(6)
        self.inner, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        return self.last(x + self.inner(x))


def test_what_cannot_be_folded_stays_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = randomised(PostNorm())
    with caplog.at_level(logging.WARNING):
        canonical = canonicalize(model, ROWS.double())
    assert 'norm.weight' in caplog.text and 'norm.bias' in caplog.text
    assert torch.equal(canonical.norm.weight, model.norm.weight)
    assert relative_change(model, canonical, torch.randn(4, 3, dtype=torch.float64)) < 1e-12


def test_a_convolutional_network_with_batch_norms_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    model = randomised(CifarResNet(1, 4))
    canonical = canonicalize(model, SMALL.double())
    assert all(torch.equal(tensor, canonical.state_dict()[key]) for key, tensor in model.state_dict().items())
