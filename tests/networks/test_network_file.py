"""A network file gives back the network it was made of, bit for bit, and refuses everything else."""
import json
import os
import subprocess
import sys

import pytest
import timm
import torch
from file_nets import JOBS, NETS, build, merged
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.networks import create, describe, load, record_of, save
from mmreuse.networks.network_file import read
from mmreuse.networks.resize import resize
from mmreuse.pruning import prune_channels
from mmreuse.utils.files.io import load_tensors, save_tensors, state_hash


def outputs(network, images):
    with torch.no_grad():
        found = network.eval()(images)
    return found if isinstance(found, tuple) else (found,)


@pytest.fixture
def images():
    return torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(3))


#: Every network and every job in the default tests, each with each in the slow ones.
PAIRS = [pytest.param(name, job, marks=[] if job == 'base' or number % len(JOBS) == place else pytest.mark.slow)
         for number, name in enumerate(NETS) for place, job in enumerate(JOBS)]


@pytest.mark.parametrize('name, job', PAIRS)
def test_comes_back_bit_for_bit(name, job, images, tmp_path):
    network = JOBS[job](name, images)
    path = tmp_path / 'a.safetensors'
    save(network, path, inputs=images)
    again = load(path, trust_code=True)
    assert all(map(torch.equal, outputs(network, images), outputs(again, images)))
    assert network.state_dict().keys() == again.state_dict().keys()
    # What comes back is as good a start as what was saved: it can be saved again, to the same bytes.
    save(again, tmp_path / 'b.safetensors')
    assert path.read_bytes() == (tmp_path / 'b.safetensors').read_bytes()


def test_loads_in_a_fresh_process(images, tmp_path, repository):
    paths = []
    # Every job and every origin; networks that are large are only built.
    for name, job in zip(NETS, ('prune_channels', 'merge', 'compact', 'prune', 'prune_channels', 'base', 'base', 'base',
                                'merge, stop', 'compact'), strict=True):
        network = JOBS[job](name, images)
        paths.append(tmp_path / f'{name}.safetensors')
        save(network, paths[-1], inputs=images)
        save_tensors(tmp_path / f'{name}.expected', dict(enumerate_outputs(network, images)))
    save_tensors(tmp_path / 'images', dict(images=images))
    program = f"""
import sys, torch, mmreuse, mmreuse.utils.files.io
torch.set_num_threads(1)
images = mmreuse.utils.files.io.load_tensors({str(tmp_path / 'images')!r})[0]['images']
for path in sys.argv[1:]:
    found = mmreuse.load(path, trust_code=True)(images)
    expected = mmreuse.utils.files.io.load_tensors(path.replace('.safetensors', '.expected'))[0]
    for number, value in enumerate(found if isinstance(found, tuple) else (found,)):
        assert torch.equal(value, expected[str(number)]), path
"""
    done = subprocess.run([sys.executable, '-c', program, *map(str, paths)], cwd=repository, capture_output=True,
                          text=True, timeout=300,
                          env=os.environ | dict(PYTHONPATH=f'{repository}:{repository}/tests/networks'))
    assert done.returncode == 0, done.stderr


def enumerate_outputs(network, images):
    return ((str(number), value) for number, value in enumerate(outputs(network, images)))


def test_jobs_compose(images, tmp_path):
    """A merged network is pruned, found again, merged and found again."""
    first = merged([build('test_resnet', 0), build('test_resnet', 1)], images)
    narrow = prune_channels(first, images[:1], 0.6)
    save(narrow, tmp_path / 'narrow.safetensors')
    both = merged([load(tmp_path / 'narrow.safetensors'), narrow], images)
    save(both, tmp_path / 'both.safetensors')
    assert all(map(torch.equal, outputs(both, images), outputs(load(tmp_path / 'both.safetensors'), images)))
    text = describe(tmp_path / 'both.safetensors')
    assert text.count('test_resnet of timm') == 4 and 'pruned to' in text and 'merged as wholes by permute' in text


def test_says_what_its_outputs_mean(images, tmp_path):
    path = tmp_path / 'a.safetensors'
    save(build('test_resnet'), path, classes=['cat', 'dog', 'fox', 'cow', 'hen'], metrics=dict(accuracy=0.5),
         preprocessing=dict(mean=[0.5]))
    record = record_of(load(path))
    assert record.classes == ['cat', 'dog', 'fox', 'cow', 'hen'] and record.metrics == dict(accuracy=0.5)
    assert record.preprocessing == dict(mean=[0.5])
    assert 'classes cat, dog, fox, cow, hen' in describe(path) and 'accuracy 0.5' in describe(path)
    # A change keeps the meaning, but not what was measured before it.
    narrow = record_of(prune_channels(load(path), images[:1], 0.7))
    assert narrow.classes == record.classes and narrow.metrics == {}


def test_types_and_tied_parameters_come_back(images, tmp_path):
    network = build('test_vit').to(torch.bfloat16)
    save(network, tmp_path / 'a.safetensors')
    again = load(tmp_path / 'a.safetensors')
    assert torch.equal(network(images.bfloat16()), again(images.bfloat16()))
    tied = create('test_network_file:Tied')
    save(tied, tmp_path / 'b.safetensors', inputs=torch.zeros(1, 4))
    again = load(tmp_path / 'b.safetensors', trust_code=True)
    assert again.one.weight is again.two.weight and torch.equal(again.one.weight, tied.one.weight)
    sizes = dict(shapes={'one.weight': [2, 2], 'two.weight': [2, 2]})
    smaller = resize(again, sizes)
    assert smaller.one.weight is smaller.two.weight and smaller.one.weight.shape == (2, 2)
    apart = create('test_network_file:Tied')
    apart.two.weight = nn.Parameter(torch.zeros(4, 4))
    with pytest.raises(ArtefactError, match="'one.weight' and 'two.weight' are one parameter.*have two values"):
        save(apart, tmp_path / 'c.safetensors')


@pytest.mark.parametrize('precision', [torch.float16, torch.bfloat16, torch.float64])
def test_jobs_in_every_precision(precision, images, tmp_path):
    images = images.to(precision)
    network = merged([prune_channels(build('test_resnet', seed).to(precision), images[:1], 0.8) for seed in (0, 0)],
                     images)
    save(network, tmp_path / 'a.safetensors')
    again = load(tmp_path / 'a.safetensors')
    assert all(map(torch.equal, outputs(network, images), outputs(again, images)))
    assert {tensor.dtype for tensor in again.parameters()} == {precision}
    sizes = record_of(again).structure['of'][0]['sizes']
    assert set(sizes) == {'shapes', 'attributes'}, 'a precision is no structure'


def test_says_of_which_weights_a_network_was_made(images):
    network = build('test_resnet')
    narrow = prune_channels(network, images[:1], 0.8)
    before = record_of(narrow).structure['of'][0]
    assert before['weights'] == state_hash(network)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    made = prune_channels(prune_channels(network, images[:1], 0.8), images[:1], 0.9)
    assert record_of(made).structure['of'][0]['of'][0]['weights'] == state_hash(network) != before['weights']


def test_inputs_that_the_library_names_wrongly(tmp_path):
    network = timm.create_model('test_resnet', in_chans=1)
    with pytest.raises(ArtefactError, match='does not run on inputs of .*Give `inputs`'):
        save(network, tmp_path / 'a.safetensors')
    save(network, tmp_path / 'a.safetensors', inputs=torch.zeros(1, 1, 64, 64))
    assert load(tmp_path / 'a.safetensors')(torch.zeros(2, 1, 64, 64)).shape == (2, 1000)
    with pytest.raises(ConfigError, match=r'a\.pth: network files end in \.safetensors'):
        save(network, tmp_path / 'a.pth')


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x))


class Secretive(nn.Module):
    """Computes with something that is neither tensor nor plain value."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.factor = {'value': 1.}

    def forward(self, x):
        return self.layer(x) * self.factor['value']


def test_a_network_that_cannot_be_rebuilt_is_not_written(tmp_path):
    path = tmp_path / 'a.safetensors'
    network = create('test_network_file:Secretive')
    network.factor['value'] = 2.
    with pytest.raises(ArtefactError, match='computes something else when it is rebuilt'):
        save(network, path, inputs=torch.zeros(1, 4))
    with pytest.raises(ArtefactError, match='module:callable'):
        save(Secretive(), path)
    assert not path.exists()
    save(Secretive(), path, base='test_network_file:Secretive', inputs=torch.zeros(1, 4))
    assert load(path, trust_code=True)(torch.ones(1, 4)).shape == (1, 4)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp('saved') / 'a.safetensors'
    save(prune_channels(build('test_resnet'), torch.zeros(1, 3, 64, 64), 0.7), path)
    return path


def edited(saved, path, change):
    """Write the file again with other metadata."""
    tensors, metadata = load_tensors(saved)
    change(metadata['network'])
    save_tensors(path, tensors, metadata)
    return path


@pytest.mark.parametrize('change, message', [
    (lambda about: about.update(format=99), 'format 99'),
    (lambda about: about.pop('structure'), "lacks 'structure'"),
    (lambda about: about.update(structure=dict(edit='later', of=[about['structure']])), "no edit 'later'"),
    (lambda about: about.update(structure=dict(edit='merge', of=[about['structure']])), "edit 'merge' are damaged"),
    (lambda about: about.update(structure=dict(edit='resize', of=[])), 'neither a base nor an edit'),
    (lambda about: about.update(structure=dict(base='nowhere', name='a', options={})), "library 'nowhere'"),
    (lambda about: about.update(structure=dict(base='timm', name='resnet_18', options={})), "no model 'resnet_18'"),
    (lambda about: about.update(structure=dict(base='timm', name='resnet18', options=dict(pretrained=True))),
     "'pretrained', which would read"),
    (lambda about: about.update(structure=dict(base='timm', name='resnet18', options=dict(a=1))), 'cannot build'),
    (lambda about: about.update(structure=dict(base='timm', name='test_vit', options={})), 'does not fit'),
    (lambda about: about.update(structure=dict(base='python', name='os:system', options=dict(command='true'))),
     'trust_code=True'),
    (lambda about: about.update(structure=dict(base='mmpretrain', name='os.system', options=dict(command='true'))),
     'not registered'),
    (lambda about: about.update(structure=dict(base='mmpretrain', name='DeRy', options=dict(
        block_list=[dict(model=dict(key='a', library='local', model='os.system', args=dict(command='true')))]))),
     'no registered component'),
    (lambda about: about.update(structure=dict(base='mmpretrain', name='MergedClassifier', options=dict(
        sources=['nearby.py'], tasks=[[0]], input_size=[3, 8, 8]))), 'which is code'),
    (lambda about: about.update(structure=dict(base=['timm'], name='resnet18', options={})), 'does not know'),
    (lambda about: about.update(structure=dict(base='timm', name='test_resnet', options=dict(num_classes=10 ** 10))),
     'far more than the tensors of the file'),
    (lambda about: about.update(structure=dict(base='mmpretrain', name='CifarResNet', options=dict(
        depth=20, width=10 ** 5))), 'far more than the tensors of the file'),
    (lambda about: about.update(structure=dict(base='mmpretrain', name='CifarResNet', options=dict(
        depth=6 * 10 ** 6 + 2, width=1))), 'makes more than 21472 tensors'),
    (lambda about: about.update(metrics=[]), "lacks 'metrics'"),
    (lambda about: about['structure']['sizes']['attributes'].update({'no.module': dict(a=1)}), "no module 'no.module'"),
    (lambda about: about['structure']['sizes']['shapes'].update({'conv1.weight': [10 ** 6, 10 ** 6, 3, 3]}),
     'does not fit'),
    (lambda about: about['structure']['sizes']['attributes'].update({'': dict(__class__=1)}), 'no attribute to set'),
], ids=lambda value: value if isinstance(value, str) else '')
def test_refuses_what_does_not_fit(saved, tmp_path, change, message):
    with pytest.raises(ArtefactError, match=message) as caught:
        load(edited(saved, tmp_path / 'b.safetensors', change))
    assert 'b.safetensors' in str(caught.value)


def test_says_which_package_is_not_installed(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    path = edited(saved, tmp_path / 'b.safetensors', lambda about: about.update(
        structure=dict(base='transformers', name='ViTModel', options={})))
    with pytest.raises(ArtefactError, match='pip install transformers'):
        load(path)


def test_refuses_damaged_files(saved, tmp_path):
    content = saved.read_bytes()
    for number, damaged in enumerate((content[:100], content[:-100], content[:-9] + bytes(9), b'', b'{}')):
        path = tmp_path / f'{number}.safetensors'
        path.write_bytes(damaged)
        with pytest.raises(ArtefactError, match=path.name):
            load(path)
    for change in (lambda about: about['structure'].pop('of'), lambda about: about.update(inputs=[3]),
                   lambda about: about.update(structure=dict(edit=['a'], of=[]))):
        with pytest.raises(ArtefactError, match=r'e\.safetensors.*damaged'):
            describe(edited(saved, tmp_path / 'e.safetensors', change))
    plain = tmp_path / 'plain.safetensors'
    save_file(load_file(saved), plain)
    with pytest.raises(ArtefactError, match='holds tensors, but no network'):
        describe(plain)


def test_own_code_that_is_not_there(tmp_path):
    path = tmp_path / 'a.safetensors'
    save(create('file_nets:own_net'), path, inputs=torch.zeros(1, 3, 16, 16))
    elsewhere = edited(path, tmp_path / 'b.safetensors',
                       lambda about: about['structure'].update(name='gone.models:net'))
    with pytest.raises(ArtefactError, match="'gone.models:net' cannot be imported.*PYTHONPATH"):
        load(elsewhere, trust_code=True)


def test_metadata_are_json(saved):
    with safe_open(saved, framework='pt') as file:
        metadata = file.metadata()
    about = json.loads(metadata['network'])
    assert about['structure']['of'][0]['base'] == 'timm' and about['structure']['edit'] == 'prune_channels'
    assert read(saved)[1] == about


def test_networks_are_drawn_anew_and_rebuilt_without_a_draw(tmp_path):
    one, other = (create('file_nets:own_net') for _ in range(2))
    assert not torch.equal(one[0].weight, other[0].weight)
    save(one, tmp_path / 'a.safetensors', inputs=torch.zeros(1, 3, 16, 16))
    before = torch.random.get_rng_state()
    load(tmp_path / 'a.safetensors', trust_code=True)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize('change, message', [
    (lambda tensors: tensors.pop('0.bias'), "it lacks '0.bias', 1 of 16 tensors"),
    (lambda tensors: tensors.update({'8.bias': torch.zeros(4)}), r"'8.bias' has shape \(4,\), in the network \(5,\)"),
    (lambda tensors: tensors.update({'9.bias': torch.zeros(4)}), "the network has no '9.bias'.*Nearest: '8.bias'")])
def test_tensors_that_do_not_fit_the_structure_are_named(change, message, tmp_path):
    """As another version of the library that builds it may make them."""
    path = tmp_path / 'a.safetensors'
    save(build('own'), path)
    tensors, metadata = load_tensors(path)
    change(tensors)
    metadata['network']['state'] = state_hash(tensors)
    save_tensors(path, tensors, metadata)
    with pytest.raises(ArtefactError, match=f'a.safetensors: does not fit the structure it names: {message}'):
        load(path, trust_code=True)
