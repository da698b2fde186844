"""A reference in a config becomes a network with weights that knows where it comes from, or one clear error."""
import pytest
import torch
from file_nets import IMAGE, build, classifier

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.networks import create, load, open_network, record_of, save

_CONFIG = """
model = {model!r}
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', mean=[1., 2., 3.], std=[4., 5., 6.], to_rgb=True)
work_dir = {work_dir!r}
"""


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """A config, the folder of its run, and a network of its model."""
    folder = tmp_path_factory.mktemp('references')
    (folder / 'net.py').write_text(_CONFIG.format(model=classifier(), work_dir=str(folder / 'run')))
    (folder / 'run').mkdir()
    return folder, create(classifier()).eval()


def same(one, other):
    assert not other.training
    with torch.no_grad():
        assert torch.equal(one.eval()(IMAGE), other(IMAGE))


def test_a_network_file(tmp_path):
    save(build('test_resnet'), tmp_path / 'a.safetensors')
    same(build('test_resnet'), open_network(tmp_path / 'a.safetensors'))
    same(build('test_resnet'), open_network(str(tmp_path / 'a.safetensors')))


def test_a_config_and_a_checkpoint(places, tmp_path):
    folder, network = places
    torch.save(dict(state_dict=network.state_dict(), meta={}), tmp_path / 'a.pth')
    found = open_network(dict(config=str(folder / 'net.py'), checkpoint=str(tmp_path / 'a.pth')))
    same(network, found)
    record = record_of(found)
    assert record.structure['base'] == 'mmpretrain' and record.preprocessing['mean'] == [1., 2., 3.]
    save(found, tmp_path / 'b.safetensors')
    same(network, load(tmp_path / 'b.safetensors'))
    with pytest.raises(ArtefactError, match=r'a\.pth.*does not fit'):
        open_network(dict(config=str(folder / 'net.py'), checkpoint=str(tmp_path / 'a.pth'),
                          options={'model.backbone.depth': 32}))


def test_the_result_of_a_config(places):
    folder, network = places
    run = folder / 'run'
    with pytest.raises(ArtefactError, match=r'net\.py: its run has left no network in .*run\. Run it first'):
        open_network(str(folder / 'net.py'))
    other = create(classifier()).eval()
    torch.save(dict(state_dict=network.state_dict()), run / 'epoch_2.pth')
    (run / 'last_checkpoint').write_text(str(run / 'epoch_2.pth'))
    same(network, open_network(str(folder / 'net.py')))
    torch.save(dict(state_dict=other.state_dict()), run / 'best_accuracy_top1_epoch_1.pth')
    same(other, open_network(dict(config=str(folder / 'net.py'))))
    save(network, run / 'network.safetensors')
    same(network, open_network(dict(config=str(folder / 'net.py'))))


def test_a_base_and_its_weights(tmp_path):
    network = build('test_resnet')
    torch.save(network.state_dict(), tmp_path / 'a.pth')
    found = open_network(dict(base='timm:test_resnet', weights=str(tmp_path / 'a.pth'), options=dict(num_classes=5)))
    same(network, found)
    save(found, tmp_path / 'b.safetensors')
    same(network, open_network(tmp_path / 'b.safetensors'))
    own = build('own')
    torch.save(own.state_dict(), tmp_path / 'own.pth')
    reference = dict(base='file_nets:own_net', weights=str(tmp_path / 'own.pth'))
    with pytest.raises(ArtefactError, match='trust_code=True'):
        open_network(reference)
    same(own, open_network(reference, trust_code=True))


def test_a_network_is_its_own_reference():
    network = build('own')
    assert open_network(network) is network


@pytest.mark.parametrize('reference, message', [
    ('net.onnx', "'net.onnx' names no network"),
    (dict(checkpoint='a.pth'), 'names no network'),
    (dict(config='a.py', base='timm:test_resnet'), 'names no network'),
    (None, 'names no network'),
    (dict(base='timm:test_resnet'), "'timm:test_resnet' has no weights"),
    (dict(base='timm:test_resnet', weigths='a.pth'), "has no option 'weigths'. Nearest: 'weights'"),
    ('configs/no_such.py', 'no such file'),
    ('configs/dery/README.md', 'names no network'),
    ('missing.safetensors', 'is not a file'),
])
def test_refuses_what_names_no_network(reference, message, repository, monkeypatch):
    monkeypatch.chdir(repository)
    with pytest.raises((ConfigError, ArtefactError), match=message) as caught:
        open_network(reference)
    assert '\n' not in str(caught.value)
