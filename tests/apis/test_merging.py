"""One line from a notebook merges classifiers of any library."""
import pytest
import timm
import torch
import torchvision
from mmpretrain.models import ImageClassifier
from torch.utils.data import TensorDataset

from mmreuse.apis import merge
from mmreuse.errors import DataError
from mmreuse.graph import Permute, trace, transform

IMAGES = torch.randn(96, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def mmpretrain_net() -> torch.nn.Module:
    return ImageClassifier(
        backbone=dict(type='mmreuse.CifarResNet', depth=8, width=4), neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=5, in_channels=16,
                  loss=dict(type='mmpretrain.CrossEntropyLoss')))


NETS = {
    'timm': lambda: timm.create_model('resnet10t', num_classes=5, block_args=dict(), stem_width=4,
                                      channels=(8, 8, 8, 16)),
    'torchvision': lambda: torchvision.models.DenseNet(4, (2, 2), 8, num_classes=5),
    'mmpretrain': mmpretrain_net,
}


def permuted(model: torch.nn.Module) -> torch.nn.Module:
    graph = trace(model, IMAGES[:1])
    generator = torch.Generator().manual_seed(1)
    return transform(graph, {name: Permute(torch.randperm(space.size, generator=generator))
                             for name, space in graph.spaces.items() if space.blocks is None})


@pytest.mark.parametrize(('library', 'data'), [
    *((library, 'tensor') for library in NETS), ('mmpretrain', 'data set'), ('mmpretrain', 'batches'),
    ('mmpretrain', 'generator')])
def test_merging_with_a_permuted_clone_gives_the_function_back(library: str, data: str) -> None:
    torch.manual_seed(0)
    model = NETS[library]().eval()
    source = dict(tensor=IMAGES, batches=[IMAGES[:32], IMAGES[32:]], generator=iter([IMAGES]))
    merged, _ = merge([model, permuted(model)], source.get(data, TensorDataset(IMAGES, torch.zeros(96))), 'permute',
                   heads='merge', renormalizers=())
    with torch.no_grad():
        expected, actual = model(IMAGES), merged.eval()(IMAGES)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_resets_batch_norms_unless_told_otherwise() -> None:
    torch.manual_seed(0)
    models = [mmpretrain_net().eval() for _ in range(2)]
    plain, reset = (merge(models, IMAGES, **options)[0] for options in (dict(renormalizers=()), {}))
    norms = [dict(net.named_buffers()) for net in (plain, reset)]
    changed = [key for key in norms[0] if key.endswith('running_var') and not norms[0][key].equal(norms[1][key])]
    assert len(changed) == sum(key.endswith('running_var') for key in norms[0]) > 0


def test_a_stop_gives_one_output_a_model() -> None:
    torch.manual_seed(0)
    outputs = merge([mmpretrain_net().eval() for _ in range(2)], IMAGES, stop='backbone.layer1')[0](IMAGES[:3])
    assert [tuple(output.shape) for output in outputs] == [(3, 5), (3, 5)]


def test_no_images_are_an_error() -> None:
    with pytest.raises(DataError, match='no images'):
        merge([mmpretrain_net()], [])
