"""Networks found by name, and what they say of images."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

import mmreuse
from mmreuse import apis
from mmreuse.engine.configs.job_config import job_config
from mmreuse.errors import ConfigError, DataError
from mmreuse.models.classifiers import NetworkClassifier
from mmreuse.networks import create, open_network
from mmreuse.statistics.passes import images_of

SEEN = dict(type='mmpretrain.ClsDataPreprocessor', mean=[100., 110., 120.], std=[50., 60., 70.], to_rgb=True)


class TwoTasks(nn.Module):
    """Scores of three and of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(3 * 64, 3), nn.Linear(3 * 64, 2)])

    def forward(self, x):
        return tuple(head(x.flatten(1)) for head in self.heads)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Images of two classes, and a network file that knows their names."""
    folder = tmp_path_factory.mktemp('find')
    draw = np.random.default_rng(0)
    for number in range(12):
        path = folder / 'photos' / ('cat', 'dog')[number % 2] / f'{number:02}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    torch.manual_seed(0)
    network = create('timm:test_resnet', num_classes=2).eval()
    mmreuse.save(network, folder / 'runs/a.safetensors', classes=['cat', 'dog'], preprocessing=SEEN,
                 inputs=torch.zeros(1, 3, 32, 32))
    return folder


def test_it_says_what_a_run_measures(folder):
    inferencer = apis.NetworkInferencer(folder / 'runs/a.safetensors')
    found = inferencer(folder / 'photos', batch_size=5)
    config, _ = job_config(dict(type='renormalize'), [str(folder / 'runs/a.safetensors')], folder / 'photos',
                           test=folder / 'photos', input_size=(3, 32, 32), workers=0)
    init_default_scope('mmreuse')
    loader = Runner.build_dataloader(config.test_dataloader.to_dict() | dict(collate_fn=dict(type='default_collate')))
    model = NetworkClassifier(str(folder / 'runs/a.safetensors'))
    batch = next(iter(loader))
    expected = model.network(images_of(batch, model)).softmax(1).detach()
    names = [[Path(path).name for path in paths] for paths in (
        [each['path'] for each in found], [sample.img_path for sample in batch['data_samples']])]
    assert names[0] == names[1]
    torch.testing.assert_close(torch.from_numpy(np.stack([each['pred_scores'] for each in found])), expected)
    first = found[0]
    assert first['pred_class'] == ('cat', 'dog')[first['pred_label']] and len(first['top']) == 2
    assert first['pred_score'] == pytest.approx(float(expected[0].max()))


def test_arrays_files_and_lists_are_the_same(folder):
    inferencer = apis.NetworkInferencer(open_network(folder / 'runs/a.safetensors'))
    file = folder / 'photos/dog/01.png'
    one, = inferencer(str(file), top_k=1)
    array, again = inferencer([cv2.imread(str(file)), file])
    assert np.array_equal(again['pred_scores'], array['pred_scores'])
    np.testing.assert_allclose(one['pred_scores'], array['pred_scores'], rtol=1e-5)
    assert len(one['top']) == 1 and 'path' not in array and again['path'] == str(file)


def test_every_task_of_a_network_has_an_answer(folder):
    torch.manual_seed(0)
    inferencer = apis.NetworkInferencer(TwoTasks(), classes=[['a', 'b', 'c'], ['x', 'y']], input_size=(8, 8))
    found, = inferencer(folder / 'photos/cat/00.png')
    assert [len(task['pred_scores']) for task in found['tasks']] == [3, 2]
    assert found['tasks'][0]['pred_class'] in 'abc' and found['tasks'][1]['pred_class'] in 'xy'


def test_what_is_not_known_is_said(folder):
    with pytest.raises(ConfigError, match='give input_size'):
        apis.NetworkInferencer(TwoTasks())
    with pytest.raises(DataError, match='2 outputs, and 3 classes'):
        apis.NetworkInferencer(folder / 'runs/a.safetensors', classes=['a', 'b', 'c'])(folder / 'photos/cat/00.png')


def test_networks_are_found_by_name(folder):
    (folder / 'runs/weights.safetensors').write_bytes(b'')
    file = str(folder / 'runs/a.safetensors')
    assert mmreuse.list_models(folder=folder, pattern='*a.safetensors') == [file]
    assert mmreuse.get_model(file)(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert mmreuse.list_models('timm:test_resnet') == ['timm:test_resnet']
    assert 'torchvision:resnet18' in mmreuse.list_models('torchvision:*')
    assert mmreuse.get_model('timm:test_resnet', num_classes=3).get_classifier().out_features == 3
