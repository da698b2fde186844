"""Networks of a shared initialisation merged: coefficients, evidence, heads, checks, transport."""
import copy
import logging
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from mmreuse.errors import ConfigError, DataError, SpaceError
from mmreuse.graph import trace
from mmreuse.merging import merge, merge_weights, recipe_of, transport
from mmreuse.merging.partial.heads import place_of_head
from mmreuse.merging.shared.agreement import TaskImages
from mmreuse.merging.shared.evidence import diagonal_fisher, input_grams
from mmreuse.merging.shared.merge_shared import merge_shared
from mmreuse.networks import load, save
from mmreuse.registry import MERGERS
from mmreuse.statistics import reset_bn

from .architectures import INPUT, Plain, batches, graph_of, permuted, regnet, vit

TASK_MERGERS = ('task_arithmetic', 'ties', 'dare', 'consensus', 'iso_c', 'tsv', 'wudi', 'ace')


def tuned(base: nn.Module, seed: int, size: float = 0.3) -> nn.Module:
    """A network near another: every parameter moved by a share of its size."""
    model, generator = copy.deepcopy(base), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += size * tensor.norm() / tensor.numel()**.5 * torch.randn(tensor.shape, generator=generator)
    return model


def family(make=Plain, count: int = 2, size: float = 0.3) -> tuple[nn.Module, list[nn.Module]]:
    base = graph_of(make).model
    return base, [tuned(base, 1 + number, size) for number in range(count)]


run = partial(merge, inputs=INPUT)


def merger_of(network: nn.Module) -> dict:
    return recipe_of(network.state_dict())['merger']


def test_task_arithmetic_is_its_equation_on_every_parameter():
    base, nets = family(count=3)
    merged = run(nets, None, merger='task_arithmetic', base=base, scale=0.4, heads='merge')
    found, names = dict(merged.trunk.named_parameters()), dict(base.named_parameters())
    assert found.keys() == names.keys()
    for name, start in names.items():
        expected = start + 0.4 * sum(net.get_parameter(name) - start for net in nets)
        torch.testing.assert_close(found[name], expected)


def test_the_average_needs_neither_base_nor_images_and_is_the_plain_merge():
    _, nets = family()
    merged, plain = run(nets, None, merger='average'), run(nets, None, 'identity')
    torch.testing.assert_close(merged.trunk.state_dict(), plain.trunk.state_dict())


@pytest.mark.parametrize('make', [Plain, vit, pytest.param(regnet, marks=pytest.mark.slow)])
def test_networks_that_did_not_move_come_back_with_their_heads(make):
    base = graph_of(make).model
    nets = [copy.deepcopy(base) for _ in range(3)]
    with torch.no_grad():
        for number, net in enumerate(nets):
            net.get_submodule({Plain: 'head', vit: 'head', regnet: 'head.fc'}[make]).bias += number
    graphs = [trace(net, INPUT) for net in nets]
    merged = merge_weights(graphs, {}, stop=place_of_head(graphs[0]))
    images = TaskImages.of(nets, batches(), None, None)
    MERGERS.import_from_location()
    for name in MERGERS.module_dict:
        for tensor in merged.trunk.parameters():
            tensor.data.zero_()
        report = merge_shared(merged, nets, name, base, scale=0.7 if name in TASK_MERGERS else None, images=images)
        for net, found in zip(nets, merged(batches()[0]), strict=True):
            torch.testing.assert_close(found, net(batches()[0]), rtol=1e-4, atol=1e-4)
        assert report['agreement'] == 1


def test_every_layer_is_merged_as_matrices_and_the_rest_averaged():
    base, nets = family(regnet)
    merged = run(nets, None, merger='iso_c', base=base, scale=0.5, heads='merge', verify=False)
    grouped = 0
    for path, module in base.named_modules():
        for name, start in module.named_parameters(path, recurse=False):
            tasks = torch.stack([net.get_parameter(name) - start for net in nets]).double()
            if isinstance(module, nn.Conv2d | nn.Linear) and name.endswith('weight'):
                groups = getattr(module, 'groups', 1)
                grouped += groups > 1
                parts = tasks.sum(0).flatten(1).chunk(groups)
                factors = [torch.linalg.svd(part, full_matrices=False) for part in parts]
                vector = torch.cat([s.mean() * u @ v for u, s, v in factors]).reshape(start.shape)
            else:
                vector = tasks.mean(0)
            torch.testing.assert_close(merged.trunk.get_parameter(name), (start + 0.5 * vector).float())
    assert grouped


def test_the_scale_is_chosen_by_agreement_on_images_that_are_held_out():
    """Two copies of one network: half of the sum of their task vectors gives it back."""
    base, (net, _) = family()
    merged = run([net, net], batches(4), merger='task_arithmetic', base=base)
    report = merger_of(merged)
    assert report['scale'] == 0.5 and report['agreement'] == 1 and report['divergence'] < 1e-9
    assert len(report['tried']) == 10 and max(trial['divergence'] for trial in report['tried']) > 1e-3
    assert report['start']['between'] == [1.]
    torch.testing.assert_close(merged.trunk.get_parameter('inner.0.weight'), net.inner[0].weight)


def test_several_mergers_are_tried_and_the_best_is_kept():
    base, nets = family()
    merged = run(nets, batches(4), merger=[dict(type='ties', keep=0.05), 'ties', 'average'], base=base, scale=[0.1, 1.],
                 renormalizers=['reset'])
    report = merger_of(merged)
    assert [(trial['type'], trial['options'].get('keep'), trial['scale']) for trial in report['tried']] == [
        ('ties', 0.05, 0.1), ('ties', 0.05, 1.), ('ties', None, 0.1), ('ties', None, 1.), ('average', None, None)]
    best = max(report['tried'], key=lambda trial: (trial['agreement'], -trial['divergence']))
    assert {key: report[key] for key in best} == best
    again = run(nets, None, merger=dict(type=best['type'], **best['options']), base=base, scale=best['scale'])
    for name, tensor in merged.trunk.named_parameters():
        assert torch.equal(again.trunk.get_parameter(name), tensor)
    reset_bn(again, batches(4))
    torch.testing.assert_close(again.trunk.state_dict(), merged.trunk.state_dict())


def test_regmean_weighs_by_the_inputs_of_each_networks_own_task():
    base, nets = family()
    own = [batches(2)[0], 3 * batches(2)[1]]
    merged = run(nets, torch.cat(own), merger=dict(type='regmean', off_diagonal=1.), task_images=own)
    grams = []
    for images in own:
        fit = images[torch.arange(16) % 5 != 4]
        rows = F.unfold(fit, 3, stride=2).permute(0, 2, 1).flatten(0, 1).double()
        grams.append(rows.T @ rows / len(rows))
    weights = [net.stem[0].weight.detach().double().flatten(1) for net in nets]
    expected = sum(w @ g for w, g in zip(weights, grams, strict=True)) @ sum(grams).inverse()
    # Positions are drawn: 64 of 225.
    assert (merged.trunk.stem[0].weight.flatten(1) - expected).norm() < 0.2 * (
        sum(weights) / 2 - expected).norm()


def test_calibration_shows_each_image_to_the_network_of_its_task():
    base, nets = family(size=1.)
    own = [torch.cat(batches(6)[:3]), torch.cat(batches(6)[3:]).flip(1) * 2]

    def missed(**options) -> float:
        merged = run(nets, torch.cat(own), **{'merger': 'average', 'verify': False, **options})
        return sum((merged(images)[number] - net(images)).square().mean().item()
                   for number, (net, images) in enumerate(zip(nets, own, strict=True)))

    calibrated = missed(task_images=own, renormalizers=['calibrate'])
    assert calibrated < 0.7 * missed(task_images=own, renormalizers=['reset'])
    assert calibrated < 0.9 * missed(renormalizers=['calibrate'])
    # Without a merger likewise.
    assert missed(merger=None, matcher='identity', task_images=own, renormalizers=['calibrate']) == calibrated


def test_grams_are_mean_products_of_patches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Flatten(), nn.Linear(6 * 25, 3))
    images = torch.randn(20, 4, 5, 5)
    grams = input_grams(model, [images[:8], images[8:]], ['0.weight', '2.weight'])
    patches = F.unfold(images, 3, padding=1).permute(0, 2, 1).flatten(0, 1).double()
    for group, rows in enumerate(patches.chunk(2, 1)):
        torch.testing.assert_close(grams['0.weight'][group], rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
    hidden = model[:2](images).detach().double()
    torch.testing.assert_close(grams['2.weight'][0], hidden.T @ hidden / 20, rtol=1e-5, atol=1e-6)


def test_fisher_information_of_a_logistic_regression():
    torch.manual_seed(0)
    model, images = nn.Linear(3, 2), torch.randn(3000, 3)
    found = diagonal_fisher(model, [images], ['weight', 'bias'])
    chance = model(images).softmax(1).detach().double().prod(1, keepdim=True)  # p (1 - p)
    terms = chance * torch.cat([images, torch.ones(3000, 1)], 1).double().square()
    for row in range(2):
        measured = torch.cat([found['weight'][row], found['bias'][row:row + 1]])
        torch.testing.assert_close(measured, terms.mean(0), rtol=0.1, atol=0)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_heads_stay_with_their_tasks_and_the_file_comes_back(tmp_path):
    base, *nets = (timm.create_model('test_resnet', num_classes=classes).eval() for classes in (4, 5, 3))
    for number, net in enumerate(nets):
        net.load_state_dict({**tuned(base, number).state_dict(), **net.fc.state_dict(prefix='fc.')})
    merged = run(nets, batches(), merger='ties', base=base, scale=1., renormalizers=['reset'])
    first, second = merged(batches()[0])
    assert first.shape[1] == 5 and second.shape[1] == 3
    assert torch.equal(merged.tails[1].fc.weight, nets[1].fc.weight)
    save(merged, tmp_path / 'merged.safetensors')
    again = load(tmp_path / 'merged.safetensors')
    torch.testing.assert_close(again(batches()[0]), (first, second))
    assert merger_of(again) == merger_of(merged)


def test_networks_of_other_random_weights_are_told(caplog):
    base, nets = family()
    stranger = graph_of(seed=5).model
    with caplog.at_level(logging.INFO):
        run(nets, None, merger='task_arithmetic', base=base, scale=0.5)
        assert 'from their start' in caplog.text and 'match first' not in caplog.text
        run([nets[0], stranger], None, merger='task_arithmetic', base=base, scale=0.5)
        assert 'network 1' in caplog.text and 'match first' in caplog.text
        caplog.clear()
        run([nets[0], stranger], None, merger='average')
        assert 'network 1' in caplog.text


@pytest.mark.parametrize('options, message', [
    (dict(merger='ties'), 'give the base'),
    (dict(merger='ties', base='base'), 'give images'),
    (dict(merger='regmean'), 'give images'),
    (dict(merger='average', scale=0.3), 'gives weights'),
    (dict(merger=dict(type='ties', kept=0.3), base='base', scale=1.), 'keep'),
    (dict(merger='tiess', base='base'), 'ties'),
    (dict(merger='average', refit=True), 'matches nothing')])
def test_what_is_missing_or_useless_is_said(options, message):
    base, nets = family()
    options = {key: base if value == 'base' else value for key, value in options.items()}
    with pytest.raises(ConfigError, match=message):
        run(nets, None, **options)


def test_images_and_bases_that_do_not_fit_are_refused():
    base, nets = family()
    with pytest.raises(DataError, match='too few'):
        run(nets, [torch.randn(10, 3, 32, 32)], merger='regmean')
    with pytest.raises(ConfigError, match='task_images has 1'):
        run(nets, batches(), merger='regmean', task_images=[batches()])
    with pytest.raises(SpaceError, match=r'stem\.0\.weight.*fine-tuned'):
        run(nets, None, merger='task_arithmetic', base=Plain(10), scale=1.)


@pytest.mark.parametrize('matcher', ['permute', 'procrustes'])
def test_a_task_vector_is_carried_over_to_a_permuted_pretraining(matcher):
    graph = graph_of()
    net = tuned(graph.model, 1)
    net.head = nn.Linear(24, 3)
    other, _ = permuted(graph, 3)
    moved = transport(net, graph.model, other.model, batches(4), matcher, inputs=INPUT)
    expected = copy.deepcopy(net)
    reset_bn(expected, batches(4))
    torch.testing.assert_close(moved(batches()[0]), expected(batches()[0]), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(moved.inner[0].weight, net.inner[0].weight, atol=0.1)
