"""Networks in half and double precision go where those in float32 go, and come back in their own precision."""
import copy

import pytest
import torch

from mmreuse.apis import merge
from mmreuse.graph import trace, transform
from mmreuse.graph.proof.verify import random_permutations
from mmreuse.merging import align, interpolate
from mmreuse.renormalization import apply_renormalizers

from .planted import ResNet, images, independent, randomised

DTYPES = {torch.float16: 2e-2, torch.bfloat16: 1e-1, torch.float64: 1e-9}
IMAGES = images(80, 16)


def dtypes(model):
    return {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()}


def close(found, expected, dtype):
    assert found.dtype == dtype
    expected = expected.double()
    assert float((found.double() - expected).abs().max() / expected.abs().max()) < DTYPES[dtype]


@pytest.fixture(params=DTYPES, ids=str)
def pair(request):
    """A network and a permuted copy of it, both in another precision."""
    model = randomised(ResNet())
    graph = trace(model, images(1))
    return request.param, [each.to(request.param) for each in (
        model, transform(graph, random_permutations(graph.spaces, 4)).eval())]


@torch.no_grad()
def test_merges_and_renormalizers(pair):
    dtype, models = pair
    expected = models[0](IMAGES.to(dtype))
    merged, _ = merge(models, IMAGES, 'permute', heads='merge', renormalizers=())
    assert dtypes(merged) == {dtype}
    close(merged(IMAGES.to(dtype)), expected, dtype)
    for options in (dict(heads='concat'), dict(stop='layer2', renormalizers=['reset', 'repair'])):
        other, _ = merge(models, IMAGES, 'zip', **options)
        assert dtypes(other) - {torch.float32} <= {dtype}
        outputs = other(IMAGES.to(dtype))
        for each in outputs if isinstance(outputs, tuple) else [outputs]:
            assert each.dtype == dtype and each.isfinite().all()


@torch.no_grad()
def test_alignment_and_means(pair):
    dtype, models = pair
    for matcher in ('permute', 'weight_matching'):
        aligned = align(models, [IMAGES], matcher, inputs=images(1))
        close(aligned[1](IMAGES.to(dtype)), models[0](IMAGES.to(dtype)), dtype)
    middle = interpolate(aligned, [.5, .5])
    assert dtypes(middle) == {dtype}
    close(middle(IMAGES.to(dtype)), models[0](IMAGES.to(dtype)), dtype)
    other = interpolate([models[0], independent(copy.deepcopy(models[0]).float(), 1).to(dtype)], [.5, .5])
    apply_renormalizers(other, [IMAGES], ['repair', 'reset'], ends=models)
    assert dtypes(other) == {dtype} and other(IMAGES.to(dtype)).isfinite().all()
