"""One convention for data: images, labels and scores from wherever they come."""
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from mmreuse.apis import merge, modularize, prune
from mmreuse.errors import DataError
from mmreuse.pruning import per_sample_gradients, prune_channels
from mmreuse.statistics import reset_bn
from mmreuse.statistics.data import as_labels, batches, logits_of, repeatable
from mmreuse.statistics.evaluate import accuracy
from mmreuse.statistics.passes import image_batches, images_of, labelled_batches

IMAGES = torch.randn(130, 3, 5, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(130) % 4
ONE_HOT = torch.eye(4)[LABELS]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


class Unlabelled(Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return IMAGES[index]


LABELLED = {
    'pair': (IMAGES, LABELS), 'list': [IMAGES, LABELS], 'arrays': (IMAGES.numpy(), LABELS.numpy()),
    'list of ids': (IMAGES, LABELS.tolist()), 'floats': (IMAGES, LABELS.double()), 'column': (IMAGES, LABELS[:, None]),
    'one-hot': (IMAGES, ONE_HOT), 'data set': TensorDataset(IMAGES, LABELS), 'stream': Stream(),
    'loader': DataLoader(TensorDataset(IMAGES, ONE_HOT), 32),
    'batches': [(IMAGES[:50], LABELS[:50].tolist()), (IMAGES[50:].numpy(), LABELS[50:])],
    'dicts': [dict(pixel_values=IMAGES[:9], labels=LABELS[:9]), dict(images=IMAGES[9:], label=ONE_HOT[9:])],
}
UNLABELLED = {'tensor': IMAGES, 'array': IMAGES.numpy(), 'data set': Unlabelled(),
              'batches': [IMAGES[:70], IMAGES[70:]], 'split': IMAGES.split(65), 'dicts': [dict(inputs=IMAGES)]}


@dataclass
class Output:
    logits: torch.Tensor


class Wrapped(nn.Module):
    """A small classifier with batch norm whose scores are in a container."""

    def __init__(self, wrap=lambda scores: scores):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Linear(8, 4)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.fc(self.norm(self.conv(x)).relu().mean((2, 3))))


def make(wrap=lambda scores: scores):
    torch.manual_seed(0)
    return Wrapped(wrap).eval()


@pytest.mark.parametrize('kind', LABELLED)
def test_labelled_data_of_all_kinds_are_the_same(kind):
    for _ in range(2):
        images, labels = zip(*labelled_batches(LABELLED[kind], nn.Identity()), strict=True)
        assert torch.equal(torch.cat(images), IMAGES) and torch.equal(torch.cat(labels), LABELS)
    gradients = per_sample_gradients(make(), LABELLED[kind], ['fc.weight'], samples=130)
    expected = per_sample_gradients(make(), LABELLED['pair'], ['fc.weight'], samples=130)
    torch.testing.assert_close(gradients.of('fc.weight'), expected.of('fc.weight'))


@pytest.mark.parametrize('kind', [*LABELLED, *UNLABELLED])
def test_images_of_all_kinds_are_the_same(kind):
    data = {**LABELLED, **UNLABELLED}[kind] if kind != 'data set' else UNLABELLED[kind]
    found = [images for (images,) in image_batches(data, [nn.Identity()])]
    assert torch.equal(torch.cat(found), IMAGES)


@pytest.mark.parametrize('size', [1, 2, 63, 64, 65, 129, 64 * 63 + 1])
@pytest.mark.parametrize('wrap', [lambda x: x, TensorDataset, lambda x: (x, torch.zeros(len(x)))])
def test_no_batch_is_left_with_one_image(size, wrap):
    found = list(batches(wrap(torch.zeros(size, 2))))
    sizes = [len(images_of(batch, nn.Identity())) for batch in found]
    assert sum(sizes) == size and max(sizes) - min(sizes) <= 1 and max(sizes) <= 64


@pytest.mark.parametrize('samples', [64, 65, 66, 129, 130])
def test_a_budget_leaves_no_batch_of_one(samples):
    loader = DataLoader(TensorDataset(IMAGES), 64)
    found = [images for (images,) in image_batches(loader, [nn.Identity()], samples)]
    assert torch.equal(torch.cat(found), IMAGES[:samples]) and min(map(len, found)) > 1
    reset_bn(make(), loader, samples)  # one value a channel and image: a single image has no variance


def test_iterators_are_read_for_several_passes():
    data = repeatable(iter(LABELLED['batches']))
    assert len(list(data)) == len(list(data)) == 2


@pytest.mark.parametrize('labels, match', [
    (torch.rand(130, 4), 'neither ids nor one-hot'), (LABELS[:9], '9 labels for 130 images'),
    (LABELS + .5, 'not whole numbers'), (torch.zeros(130, 2, 2), 'shape'), (['cat'] * 130, 'no class ids')])
def test_labels_that_mean_nothing_are_refused(labels, match):
    with pytest.raises(DataError, match=match):
        as_labels(labels, 130)
    with pytest.raises(DataError, match=match):
        prune(make(), (IMAGES, labels), 0.5, 'diagonal_fisher', fisher=dict(samples=20))


WRAPS = [Output, lambda scores: dict(logits=scores), lambda scores: (scores, None),
         lambda scores: OrderedDict(logits=scores), lambda scores: [Output(scores)]]


@pytest.mark.parametrize('wrap', WRAPS)
def test_scores_are_found_in_what_networks_return(wrap):
    scores = torch.randn(5, 4)
    assert logits_of(wrap(scores)) is scores
    plain, other = make(), make(wrap)
    assert accuracy(other, LABELLED['pair']) == accuracy(plain, LABELLED['pair'])
    options = dict(update='joint', fisher=dict(samples=40, damp=1e-2))
    expected, _ = prune(plain, LABELLED['pair'], 0.6, 'woodfisher', **options)
    pruned, _ = prune(other, LABELLED['pair'], 0.6, 'woodfisher', **options)
    torch.testing.assert_close(pruned.state_dict(), expected.state_dict())
    module, _ = modularize(other, LABELLED['pair'], [1, 2], epochs=1)
    assert module(IMAGES[:3]).shape == (3, 2)


def test_channels_go_where_scores_are_in_a_container():
    options = dict(fisher=dict(samples=40), renormalizers=['reset'])
    found = [prune_channels(make(wrap), inputs, 0.6, LABELLED['pair'], 'diagonal_fisher', **options).state_dict()
             for wrap, inputs in ((lambda scores: scores, torch.zeros(1, 3, 5, 5)),
                                  (Output, dict(x=torch.zeros(1, 3, 5, 5))))]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize('output', [None, dict(loss=1), Output(None), ()])
def test_no_scores_are_an_error(output):
    with pytest.raises(DataError, match='no scores'):
        logits_of(output)


@pytest.mark.parametrize('kind', ['pair', 'arrays', 'one-hot', 'data set', 'loader', 'dicts'])
def test_calls_take_data_of_all_kinds(kind):
    data, image = LABELLED[kind], torch.zeros(1, 3, 5, 5)
    assert prune_channels(make(), image, 0.6, data, renormalizers=['reset']).conv.out_channels < 8
    assert prune_channels(make(), image, 0.6, data, 'diagonal_fisher', fisher=dict(samples=20)).conv.out_channels < 8
    assert merge([make(), make()], data, 'permute', heads='merge')[0](IMAGES).shape == (130, 4)
    assert modularize(make(), data, [1], epochs=1)[0](IMAGES).shape == (130, 2)


@pytest.mark.parametrize('kind', UNLABELLED)
def test_images_alone_are_enough_where_no_labels_are_used(kind):
    data = UNLABELLED[kind]
    prune_channels(make(), torch.zeros(1, 3, 5, 5), 0.6, data, renormalizers=['reset'])
    prune(make(), data, 0.5)
    with pytest.raises(DataError, match='labels'):
        prune(make(), data, 0.5, 'diagonal_fisher', fisher=dict(samples=20))


@pytest.mark.parametrize('precision', [torch.float16, torch.bfloat16, torch.float64])
def test_images_take_on_the_precision_of_the_network(precision):
    net = make().to(precision)
    options = dict(update='joint', fisher=dict(samples=40, damp=1e-2))
    pruned, _ = prune(net, LABELLED['pair'], 0.6, 'woodfisher', **options)
    expected, _ = prune(make(), LABELLED['pair'], 0.6, 'woodfisher', **options)
    assert all(value.dtype == net.state_dict()[name].dtype for name, value in pruned.state_dict().items())
    same = [((value == 0) == (expected.state_dict()[name] == 0)).float().mean()
            for name, value in pruned.state_dict().items() if name.endswith('weight') and value.ndim > 1]
    assert min(same) > 0.9  # nearly the same weights go
    narrow = prune_channels(net, torch.zeros(1, 3, 5, 5), 0.6, LABELLED['pair'], 'diagonal_fisher',
                            fisher=dict(samples=40), renormalizers=['reset'])
    assert narrow.conv.weight.dtype == precision and narrow.conv.out_channels < 8
