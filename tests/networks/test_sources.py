"""A network file stands wherever a trained network is asked for."""
import pytest
import torch
from file_nets import build, classifier

from mmreuse.engine.merging import collect_moments, merge_sources
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.merging import merge
from mmreuse.models import MergedClassifier, ModularClassifier
from mmreuse.models.classifiers.sources import build_source
from mmreuse.networks import create, load, save
from mmreuse.pruning import prune_channels
from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.zoo import build_member, parse_zoo
from mmreuse.utils.files.io import load_checkpoint
from mmreuse.utils.files.state_fit import load_strictly


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two narrow networks of timm, in files, and one of mmpretrain that knows how its images are prepared."""
    folder = tmp_path_factory.mktemp('sources')
    for seed in (0, 1):
        network = prune_channels(build('test_resnet', seed), torch.zeros(1, 3, 32, 32), 0.8)
        save(network, folder / f'{seed}.safetensors')
    save(create(classifier()), folder / 'own.safetensors', inputs=torch.zeros(1, 3, 32, 32),
         preprocessing=dict(type='mmpretrain.ClsDataPreprocessor', mean=[1.], std=[2.], num_classes=5))
    return folder


@pytest.fixture
def images():
    return torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_merged_as_configs_do(folder, images):
    model = MergedClassifier([str(folder / '0.safetensors'), str(folder / '1.safetensors')], [[0, 1, 2, 3, 4]],
                             (3, 32, 32), stop=0.5)
    model.init_weights()
    merge_sources(model, lambda: collect_moments(model, [images]), 'zip')
    assert [output.shape for output in model(images)] == [(16, 5)] * 2
    # The merged network's own file is a checkpoint of the classifier, whatever it is merged up to.
    nets = [load(folder / f'{seed}.safetensors') for seed in (0, 1)]
    merged = merge(nets, [images], 'zip', inputs=images[:1], stop=0.7, heads='tasks').eval()
    save(merged, folder / 'merged.safetensors')
    load_strictly(model, load_checkpoint(folder / 'merged.safetensors'), 'merged')
    assert all(map(torch.equal, model.eval()(images), merged(images)))


def test_base_of_modules(folder, images):
    model = ModularClassifier(str(folder / '0.safetensors'), in_classes=5)
    model.init_weights()
    network = load(folder / '0.safetensors')
    assert torch.equal(model.eval().base(images), network(images))
    with pytest.raises(ArtefactError, match='is not a file'):
        ModularClassifier(str(folder / 'none.safetensors'), in_classes=5)


def test_preprocessing_comes_with_the_file(folder):
    source = build_source(str(folder / 'own.safetensors'), 0)
    assert source.preprocessor['std'] == [2.] and source.name == 'own' and source.is_complete
    with pytest.raises(ConfigError, match='either a config file or a model'):
        build_source(dict(base='timm:test_resnet', model=dict(type='a')), 0)


def test_member_of_a_zoo(folder, images):
    path = folder / '0.safetensors'
    zoo = parse_zoo([dict(key='narrow', library='network_file', model=str(path), input_size=32)])
    member, network = build_member(zoo['narrow']), load(path)
    assert torch.equal(member(images), network(images))
    empty = build_member(zoo['narrow'], empty=True)
    assert all(parameter.is_meta for parameter in empty.parameters())
    nodes = member_nodes(zoo['narrow'])
    assert len(nodes) > 3 and sum(node.params for node in nodes) <= sum(map(torch.numel, network.parameters()))
    with pytest.raises(ArtefactError, match='is not a file'):
        build_member(parse_zoo([dict(key='a', library='network_file', model='none.safetensors')])['a'])
