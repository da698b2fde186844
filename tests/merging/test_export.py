"""Merged models leave PyTorch."""
import io

import onnx
import onnxruntime
import pytest
import torch

from mmreuse.graph import trace
from mmreuse.merging import Matching, merge_weights

from .planted import FAMILIES, ResNet, images, in_order, independent, outputs, permuted_clones, randomised


@pytest.mark.parametrize('start, stop, as_matrix', [
    (None, None, False), (None, 'layer2.0.conv1', False), ('layer1.0.conv1', 'layer3', False),
    ('layer1.0.conv1', 'layer2.0.conv1', True)])
def test_onnx_computes_the_same(start, stop, as_matrix):
    model = randomised(ResNet())
    graphs = [trace(each, images(1)) for each in (model, independent(model, 1))]
    matchings = in_order(graphs)
    if as_matrix:
        matchings = {name: Matching(item.map.dense(sum(item.sizes)), item.sizes, 1.)
                     for name, item in matchings.items()}
    check(merge_weights(graphs, matchings, start=start, stop=stop), 16)


def test_onnx_of_a_cut_inside_an_attention():
    build, size = FAMILIES['vit']
    graphs, matchings = permuted_clones(randomised(build()), images(1, size))
    check(merge_weights(graphs, matchings, start='blocks.0.norm1', stop='blocks.1.attn.q_norm'), size)


def check(merged: torch.nn.Module, size: int) -> None:
    file = io.BytesIO()
    names = [f'out{number}' for number in range(len(outputs(merged, images(2, size))))]
    torch.onnx.export(merged, (images(2, size),), file, input_names=['x'], output_names=names, dynamo=False,
                      opset_version=17, dynamic_axes={'x': {0: 'batch'}})
    onnx.checker.check_model(onnx.load_from_string(file.getvalue()))
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    x = images(3, size)
    for found, known in zip(session.run(None, {'x': x.numpy()}), outputs(merged, x), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), known, rtol=1e-4, atol=1e-5)
