"""A pruned network from its file is refitted to what it came from as it is in the job that prunes."""
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmreuse import create, load, save
from mmreuse.apis import calibrate as calibrate_with_report
from mmreuse.apis import distill as distill_with_report
from mmreuse.engine.jobs import distill, renormalize
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.modularization import compact
from mmreuse.networks import record_of
from mmreuse.networks.kept_outputs import kept_outputs
from mmreuse.networks.record import set_record
from mmreuse.pruning import prune_channels

from . import nets
from .nets import IMAGES, build

CALIBRATE = dict(type='calibrate', ridge=0.01)


def dense(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create(f'{nets.__file__}:Attending').eval() if name == 'attending' else build(name)


def through_file(network: nn.Module, path) -> nn.Module:
    save(network, path, inputs=IMAGES[:1])
    return load(path, trust_code=True)


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit', 'attending'])
def test_it_is_the_network_that_the_job_makes(name, tmp_path):
    network = dense(name)
    wanted = prune_channels(network, IMAGES[:1], 0.6, IMAGES, renormalizers=[CALIBRATE])
    pruned, source = (through_file(each, tmp_path / f'{number}.safetensors') for number, each in enumerate(
        (prune_channels(network, IMAGES[:1], 0.6), network)))
    found = renormalize([pruned, source], images=IMAGES, renormalizers=[CALIBRATE])
    again, result = calibrate_with_report(pruned, [source], IMAGES, controls=False, ridge=0.01)
    for each in (found, again):
        assert each.state_dict().keys() == wanted.state_dict().keys()
        for key, tensor in wanted.state_dict().items():
            torch.testing.assert_close(each.state_dict()[key], tensor, rtol=1e-5, atol=1e-5)
    assert not any('which are which' in reason for reason in result.layers.left.values())
    changed = [key for key, tensor in wanted.named_parameters() if not torch.equal(tensor, pruned.get_parameter(key))]
    assert len(changed) > 4


def test_channels_of_two_prunings_are_followed_to_each_network_on_the_way(tmp_path):
    """What belongs to one channel alone is that of the source, bit by bit."""
    network = dense('test_resnet')
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand(len(module.weight)) + 0.5)
    half = through_file(prune_channels(network, IMAGES[:1], 0.6), tmp_path / 'half.safetensors')
    settled = renormalize([half], images=IMAGES)
    small = prune_channels(settled, IMAGES[:1], 0.6, saliency='random')
    small = through_file(small, tmp_path / 'small.safetensors')
    for source in (network, settled):
        kept = kept_outputs(small, source)
        norms = [name for name in kept if isinstance(small.get_submodule(name), nn.BatchNorm2d)]
        assert len(norms) > 3
        for name in norms:
            assert len(kept[name]) < len(source.get_submodule(name).weight)
            assert torch.equal(small.get_submodule(name).weight, source.get_submodule(name).weight[kept[name]])
    assert kept_outputs(small, dense('test_resnet')) is None  # other weights


def without_notes(network: nn.Module) -> nn.Module:
    """As files of earlier versions are."""
    structure = {key: value for key, value in record_of(network).structure.items() if key != 'outputs'}
    return set_record(network, replace(record_of(network), structure=structure))


def test_files_that_do_not_say_it_leave_layers_alone_and_named(tmp_path):
    network = dense('test_resnet')
    old = through_file(without_notes(prune_channels(network, IMAGES[:1], 0.6)), tmp_path / 'old.safetensors')
    assert kept_outputs(old, network) == {}
    _, result = calibrate_with_report(old, [network], IMAGES, controls=False, ridge=0.01)
    assert any('which are which' in reason for reason in result.layers.left.values())
    # What is taken away later does not make up for it.
    small = prune_channels(old, IMAGES[:1], 0.6, saliency='random')
    assert kept_outputs(small, old) and not kept_outputs(small, network)


def test_a_compacted_network_does_not_say_it(tmp_path):
    network = dense('test_resnet')
    with torch.no_grad():
        name = next(name for name, module in network.named_modules() if name.endswith('conv1') and '.' in name)
        network.get_submodule(name).weight[::2] = 0
        norm = network.get_submodule(name.replace('conv1', 'bn1'))
        norm.weight[::2], norm.bias[::2] = 0, 0
    small = compact(network, IMAGES[:1])
    pruned = prune_channels(small, IMAGES[:1], 0.6)
    assert name in kept_outputs(pruned, small) and name not in kept_outputs(pruned, network)


@pytest.mark.parametrize('outputs', [{'layer1.0.conv1': [999]}, {'nowhere': [0]}, {'layer1.0.conv1': [0]},
                                     {'layer1.0.conv1': 3}, {'layer1.0.conv1': [-1]}, 5])
def test_a_damaged_note_is_refused(outputs):
    network = dense('test_resnet')
    pruned = prune_channels(network, IMAGES[:1], 0.6)
    structure = dict(record_of(pruned).structure, outputs=outputs)
    with pytest.raises(ArtefactError, match='kept channels is damaged'):
        kept_outputs(set_record(pruned, replace(record_of(pruned), structure=structure)), network)


def test_features_of_the_source_teach_a_pruned_network_from_its_file(tmp_path):
    network = dense('test_resnet')
    made = prune_channels(network, IMAGES[:1], 0.6)
    pruned = through_file(made, tmp_path / 'pruned.safetensors')
    taught = distill([pruned, network], images=[IMAGES], folder=tmp_path, epochs=2, teachers=['features'])
    layer = next(name for name in kept_outputs(pruned, network) if isinstance(pruned.get_submodule(name), nn.Conv2d))
    name = f'{layer}.weight'
    assert not torch.equal(taught.get_parameter(name), pruned.get_parameter(name))
    better, _ = distill_with_report(pruned, [network], IMAGES, steps=2, controls=False, teachers=['features'])
    assert not torch.equal(better.get_parameter(name), pruned.get_parameter(name))
    with pytest.raises(ConfigError, match='not known how'):
        distill_with_report(pruned, [dense('test_vit')], IMAGES, steps=2, controls=False, teachers=['features'])
    old = without_notes(made)
    with pytest.raises(ConfigError, match=f"'{layer}' has other channels"):
        distill_with_report(old, [network], IMAGES, steps=2, controls=False,
                            teachers=[dict(type='features', layers=[layer])])
