import pytest
import torch
from torch import nn

from mmreuse.reassembly.assembly.adapters import to_layout
from mmreuse.reassembly.partition.blocks import extract_block
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.zoo import build_member, parse_zoo
from mmreuse.utils.cost.complexity import count_params
from mmreuse.utils.files.io import save_tensors

SWIN = dict(arch=dict(embed_dims=8, depths=[2, 2, 2], num_heads=[2, 2, 2]), img_size=32, window_size=2, out_indices=[2])
ENTRIES = {
    'cifar': (dict(library='local', model='CifarResNet', args=dict(depth=14, width=4, num_classes=3), input_size=32),
              'layer1.1', 'layer3.0'),
    'regnet': (dict(library='torchvision', model='regnet_y_400mf', input_size=32),
               'trunk_output.block2.block2-1', 'trunk_output.block4.block4-1'),
    'squeezenet': (dict(library='torchvision', model='squeezenet1_1', input_size=48), 'features.4', 'features.9'),
    'vit': (dict(library='timm', model='vit_tiny_patch16_224', input_size=32,
                 args=dict(img_size=32, patch_size=8, embed_dim=12, depth=4, num_heads=2)), 'blocks.1', 'blocks.2'),
    'mobilenet': (dict(library='timm', model='mobilenetv3_small_050', input_size=32), 'blocks.1.0', 'blocks.3.1'),
    'swin of mmpretrain': (dict(library='mmpretrain', model='SwinTransformer', args=SWIN, input_size=32),
                           'stages.0.blocks.1', 'stages.2.blocks.0'),
    'swin of timm': (dict(library='timm', model='swin_tiny_patch4_window7_224', input_size=32, args=dict(
        img_size=32, window_size=2, embed_dim=8, depths=(2, 2), num_heads=(2, 2))), 'layers.0.blocks.1',
        'layers.1.blocks.0'),
    'densenet': (dict(library='torchvision', model='densenet121', input_size=32), None, None),
}


@pytest.fixture(params=ENTRIES)
def case(request):
    options, first, last = ENTRIES[request.param]
    entry, = parse_zoo([dict(key=request.param, **options)]).values()
    names = [node.name for node in member_nodes(entry)]
    return entry, first or names[1], last or names[2]


def record(model, node, images):
    """Input and output of the modules that a node begins and ends with."""
    seen = {}
    first, last = node.name.split(':')[0], node.name.split(':')[-1]
    last = last if '.' in last or last == first else f"{first.rpartition('.')[0]}.{last}"
    handles = [
        model.get_submodule(first).register_forward_pre_hook(lambda _, args: seen.update(input=args[0])),
        model.get_submodule(last).register_forward_hook(
            lambda _, args, out: seen.update(output=out[0] if isinstance(out, tuple) else out))]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return seen['input'], seen['output']


def map_size(node, shape, layout):
    """Height and width of the map that a measured node's features stand for, without extra tokens."""
    if layout == 'nlc':
        side = int(shape[0]**0.5)
        return side, side
    return shape[1:] if layout == 'nchw' else shape[:2]


def test_a_block_computes_the_slice_of_its_network(case, tmp_path):
    """On the true input of its first node, bit for bit, with the names and weights of the network's file."""
    entry, first, last = case
    torch.manual_seed(1)
    model = build_member(entry, pretrained=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    save_tensors(tmp_path / 'weights.safetensors', model.state_dict())
    loaded, = parse_zoo([dict(key=entry.key, library=entry.library, model=entry.model, args=entry.args,
                              input_size=entry.input_size, weights=str(tmp_path / 'weights.safetensors'))]).values()
    nodes = {node.name: node for node in member_nodes(loaded)}
    images = torch.randn(2, *entry.input_size)
    entering, _ = record(model, nodes[first], images)
    _, leaving = record(model, nodes[last], images)
    block = extract_block(loaded, first, last)
    with torch.no_grad():
        out, size = block(entering, map_size(nodes[first], nodes[first].in_shape, block.in_layout))
    assert torch.equal(out, leaving)
    assert size == map_size(nodes[last], nodes[last].out_shape, block.out_layout)
    whole = model.state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in block.body.state_dict().items())


def test_measured_nodes_are_what_runs(case):
    entry, first, last = case
    model = build_member(entry, pretrained=False)
    derived, measured = member_nodes(entry), member_nodes(entry, model)
    assert derived == measured
    for node in derived:
        entering, leaving = record(model, node, torch.randn(1, *entry.input_size))
        assert entering.shape[1:] == node.in_shape and leaving.shape[1:] == node.out_shape
    assert {node.in_layout for node in derived} == {
        'vit': {'nlc'}, 'swin of mmpretrain': {'nlc'}, 'swin of timm': {'nhwc'}}.get(entry.key, {'nchw'})


def test_empty_blocks_have_the_size_of_real_ones(case):
    entry, first, last = case
    empty = extract_block(entry, first, last, empty=True)
    real = extract_block(entry, first, last, pretrained=False)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    assert not any(tensor.is_meta for tensor in real.state_dict().values())
    assert count_params(empty) == count_params(real)


@pytest.mark.parametrize('key', ['cifar', 'regnet', 'squeezenet', 'swin of mmpretrain'])
def test_blocks_run_at_other_resolutions(key):
    options, first, last = ENTRIES[key]
    entry, = parse_zoo([dict(key=key, **options)]).values()
    block = extract_block(entry, first, last, pretrained=False)
    x = torch.randn(2, block.first.in_channels, 12, 20)
    out, size = block(to_layout(x, (12, 20), 'nchw', block.in_layout), (12, 20))
    assert to_layout(out, size, block.out_layout, 'nchw').shape[1] == block.last.out_channels


def test_two_blocks_of_one_network_share_nothing():
    options, first, last = ENTRIES['cifar']
    entry, = parse_zoo([dict(key='cifar', **options)]).values()
    one, two = (extract_block(entry, first, last, pretrained=False) for _ in range(2))
    assert {id(p) for p in one.parameters()}.isdisjoint({id(p) for p in two.parameters()})
