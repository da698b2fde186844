import copy

import pytest
import torch
from torch import nn
from toy_nets import Toy

from mmreuse.models import CifarResNet, DeRy
from mmreuse.reassembly.assembly.assembly import ComponentCache
from mmreuse.reassembly.assembly.fitted import FittedCache
from mmreuse.reassembly.assembly.stitching_init import (
    _solve_without_bias,
    joint_error,
    joint_of,
    stitch_by_least_squares,
)
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.structures import Adapter, Block, Genotype
from mmreuse.reassembly.zoo.zoo import Preprocess
from mmreuse.statistics import CrossMomentAccumulator
from mmreuse.utils.files.io import save_tensors
from mmreuse.utils.modes import evaluating

#: The backbone's normalisation, and another one of which nothing but channel order and scale differ.
OURS = Preprocess(resize=16, crop=16)
OTHER = Preprocess(mean=OURS.mean[::-1], std=(0.3, 0.2, 0.25), resize=16, crop=16, to_rgb=False)
SCALE = torch.tensor(OTHER.std).flip(0)[:, None, None] / torch.tensor(OURS.std)[:, None, None]


def toy(path, key, args, preprocess=OURS):
    """A zoo entry of a toy net with lively statistics, and the net; save it before use."""
    net = Toy(**args).eval()
    nn.init.normal_(net.stem[1].running_mean, std=0.3)
    nn.init.uniform_(net.stem[1].running_var, 0.5, 2)
    entry = dict(key=key, library='local', model='toy_nets.Toy', args=args, weights=str(path / f'{key}.safetensors'),
                 nodes=['first', 'middle', 'second'], preprocess=preprocess)
    return entry, net


def begin_alike(net, other):
    """Let ``net`` begin as ``other`` does, from the same pixels in the other normalisation and channel order."""
    net.stem.load_state_dict(other.stem.state_dict())
    net.first.load_state_dict(other.first.state_dict())
    net.stem[0].weight.data = (other.stem[0].weight.data * SCALE).flip(1)


@pytest.mark.parametrize('args, adapter', [
    (dict(width=6, out=5), dict(mode='cnn2cnn')),
    (dict(width=6, out=6), dict(mode='cnn2cnn', num_conv=3)),
    (dict(width=4, out=3, stride=2), dict(mode='cnn2cnn', stride=2)),
    (dict(width=6, out=5, tokens=True), dict(mode='vit2vit', num_fc=1)),
    (dict(width=6, out=8, tokens=True), dict(mode='vit2vit', num_fc=2)),
    (dict(width=6, out=5, tokens=True, extra=1), dict(mode='vit2vit', num_fc=1)),
    (dict(width=6, out=5, linear=True), dict(mode='cnn2cnn', linear=True)),
    (dict(width=4, out=3, stride=2, linear=True), dict(mode='cnn2cnn', stride=2, linear=True)),
    (dict(width=6, out=5, tokens=True, extra=1, linear=True), dict(mode='vit2vit', num_fc=1, linear=True)),
])
def test_where_an_exact_map_exists_it_is_found(tmp_path, args, adapter):
    """Net b's second block behind net a's first gets, and so computes, exactly what it did in b."""
    a, net_a = toy(tmp_path, 'a', args)
    b, net_b = toy(tmp_path, 'b', args, OTHER)
    begin_alike(net_b, net_a)
    save_tensors(a['weights'], net_a.state_dict())
    save_tensors(b['weights'], net_b.state_dict())
    backbone = DeRy(
        [dict(model='a', first='first', last='first'), dict(model='b', first='second', last='second')],
        [dict(in_channels=args['width'], out_channels=args['out'], **adapter)],
        zoo=[{**entry, 'input_size': 16} for entry in (a, b)], stem='cifar', base_channels=args['width'])
    images = torch.rand(24, 3, 16, 16) * 4 - 2
    errors = stitch_by_least_squares(backbone, images.split(8), OURS, ridge=0)
    assert max(errors) < 1e-8
    backbone.eval()
    features = {}
    net_b.second.register_forward_hook(lambda module, inputs, output: features.update(out=output))
    with torch.no_grad():
        net_b((images / SCALE).flip(1))
        out, = backbone(images)
    expected = features['out']
    if args.get('tokens'):
        expected = expected[:, args.get('extra', 0):].transpose(1, 2).unflatten(2, (16, 16))
    assert (out - expected).abs().max() < 1e-4


def test_shifts_are_no_larger_than_they_need_be():
    """With weights that hardly tell two outputs apart an exact shift is huge, and so are gradients behind it."""
    torch.manual_seed(0)
    x = torch.randn(4000, 16, dtype=torch.float64)
    weight = torch.randn(16, 16, dtype=torch.float64)
    weight[0] = weight[1] + 0.02 * torch.randn(16)
    y = x @ weight.T + torch.randn(16)
    moments = CrossMomentAccumulator(16, 16)
    moments.update(x, y)
    errors, sizes = [], []
    for ridge in (0., 1e-4):
        solved, shift = _solve_without_bias(moments.result(), ridge)
        errors.append(float(((x + shift) @ solved.T - y).square().sum() / (y - y.mean(0)).square().sum()))
        sizes.append(float(shift.norm()))
    assert errors[0] < 1e-9 and sizes[0] > 20
    assert errors[1] < 0.01 and sizes[1] < 5


def test_the_stem_of_the_first_blocks_network_is_taken_over(tmp_path):
    entry, net = toy(tmp_path, 'a', dict(width=6))
    save_tensors(entry['weights'], net.state_dict())
    backbone = DeRy([dict(model='a', first='first', last='first')], zoo=[entry], stem='cifar', base_channels=6)
    stitch_by_least_squares(backbone, [torch.randn(4, 3, 16, 16)])
    assert torch.equal(backbone.stem[0].weight, net.stem[0].weight)


def test_a_stem_that_computes_something_else_stays(tmp_path):
    entry, net = toy(tmp_path, 'a', dict(width=6))
    save_tensors(entry['weights'], net.state_dict())
    backbone = DeRy([dict(model='a', first='second', last='second')], zoo=[entry], stem='cifar', base_channels=5)
    before = copy.deepcopy(backbone.stem.state_dict())
    stitch_by_least_squares(backbone, [torch.randn(4, 3, 16, 16)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.stem.state_dict().items())


def random_resnets(path):
    for key, depth in (('a', 14), ('b', 8)):
        net = CifarResNet(depth, width=8, num_classes=3)
        file = path / f'{key}.safetensors'
        save_tensors(file, net.state_dict())
        yield dict(key=key, library='local', model='CifarResNet', args=dict(depth=depth, width=8, num_classes=3),
                   weights=str(file), preprocess=dict(resize=32, crop=32))


def joint_errors(backbone, loader):
    """How far every block's input is from the one in its own network, as the backbone stands."""
    with evaluating(backbone), torch.no_grad():
        joints = [joint_of(backbone, index, Preprocess()) for index in range(len(backbone.specs))]
        return [joint_error(joint, loader, None) for joint in joints]


def test_only_stem_and_adapters_change_and_modes_come_back(tmp_path):
    backbone = DeRy([dict(model='a', first='layer1.0', last='layer1.1'),
                     dict(model='b', first='layer2.0', last='layer3.0')],
                    [dict(mode='cnn2cnn', in_channels=8, out_channels=8)],
                    zoo=list(random_resnets(tmp_path)), stem='cifar', base_channels=8)
    before = copy.deepcopy(backbone.blocks.state_dict())
    backbone.train()
    images = torch.randn(8, 3, 32, 32).split(4)
    untouched = joint_errors(backbone, images)
    errors = stitch_by_least_squares(backbone, images)
    assert backbone.training and backbone.adapters[0].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.blocks.state_dict().items())
    assert errors == pytest.approx(joint_errors(backbone, images))
    assert errors[1] < untouched[1]


@pytest.mark.data
def test_trained_resnets_fit_far_better_than_by_default(real_data):
    import numpy as np
    from PIL import Image
    folder = real_data('cifar10_jpeg/train')
    zoo = [dict(key=f'resnet{depth}', library='local', model='CifarResNet', args=dict(depth=depth, num_classes=10),
                weights=str(real_data(f'weights/cifar10_resnet{depth}.safetensors')), input_size=32)
           for depth in (20, 32)]
    backbone = DeRy([dict(model='resnet32', first='layer1.0', last='layer1.4'),
                     dict(model='resnet20', first='layer2.0', last='layer3.2')],
                    [dict(mode='cnn2cnn', in_channels=16, out_channels=16)], zoo=zoo, stem='cifar', base_channels=16)
    pixels = torch.from_numpy(np.stack([np.array(Image.open(file)) for file in sorted(folder.glob('*/*'))[::500]]))
    ours = Preprocess()
    images = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(ours.mean)[:, None, None]) / \
        torch.tensor(ours.std)[:, None, None]
    default = joint_errors(backbone, images.split(50))
    fitted = stitch_by_least_squares(backbone, images.split(50))
    assert fitted[0] < 1e-6
    assert fitted[1] < 0.4 * default[1]


def two_networks(path):
    """A backbone of blocks of two random ResNets, and images."""
    torch.manual_seed(0)
    backbone = DeRy([dict(model='a', first='layer1.0', last='layer1.1'),
                     dict(model='b', first='layer2.0', last='layer3.0')],
                    [dict(mode='cnn2cnn', in_channels=8, out_channels=8)],
                    zoo=list(random_resnets(path)), stem='cifar', base_channels=8)
    return backbone, torch.randn(24, 3, 32, 32).split(8)


def test_steps_towards_the_ends_bring_them_nearer(tmp_path):
    backbone, images = two_networks(tmp_path)
    twin = copy.deepcopy(backbone)
    stitch_by_least_squares(backbone, images)
    stitch_by_least_squares(twin, images, end_steps=20)
    left = []
    for each in (backbone, twin):
        with evaluating(each), torch.no_grad():
            joint = joint_of(each, 1, Preprocess())
            ends = joint.ends(images[0], joint.arriving(images[0]))
            left.append(float((ends - joint.ends(images[0])).square().sum()))
    assert left[1] < 0.7 * left[0]
    assert torch.equal(backbone.stem[0].weight, twin.stem[0].weight)


def test_pieces_of_a_search_start_as_the_backbone_does(tmp_path):
    backbone, images = two_networks(tmp_path)
    stitch_by_least_squares(backbone, images)
    zoo = {spec.entry.key: spec.entry for spec in backbone.specs}
    nodes = {key: member_nodes(entry) for key, entry in zoo.items()}
    names = {key: [node.name for node in each] for key, each in nodes.items()}
    blocks = tuple(Block(spec.entry.key, *(names[spec.entry.key].index(each) for each in (spec.first, spec.last)),
                         stage, stage) for stage, spec in enumerate(backbone.specs))
    genotype = Genotype(blocks, (Adapter('cnn2cnn', 8, 8), ), 8, stem='cifar')
    pieces = FittedCache(images, Preprocess(), zoo, nodes, 3)
    stem, _, adapter, *_ = steps = pieces.steps(genotype)
    assert torch.equal(stem.module[0].weight, backbone.stem[0].weight)
    for name, tensor in backbone.adapters[0].state_dict().items():
        torch.testing.assert_close(adapter.module.state_dict()[name], tensor)
    assert pieces.steps(genotype)[2] is adapter  # fitted once
    assert ComponentCache(zoo, nodes, 3).facts() != pieces.facts()
    assert [step.key for step in steps] == [step.key for step in pieces.steps(genotype)]
