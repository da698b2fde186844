"""What methods declare: checked where they are registered, read nowhere else."""
import inspect
from functools import partial

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmreuse.engine.configs.config_check import check_config
from mmreuse.errors import ConfigError, SpaceError
from mmreuse.merging import merge
from mmreuse.registry import MATCHERS, RENORMALIZERS, SALIENCIES
from mmreuse.renormalization import bias_removal, repair, reset
from mmreuse.renormalization.apply import apply_renormalizers
from mmreuse.renormalization.requirements import check_fit
from mmreuse.utils.configs.methods import find_method, method_name

METHODS = '''"""A matcher and a renormalizer of somebody else."""
import torch

from mmreuse.graph import Assign
from mmreuse.merging import Matching
from mmreuse.registry import MATCHERS, RENORMALIZERS


@MATCHERS.register_module(name='rolled', needs=('moments',))
def rolled(moments, *, by=1):
    """Join each feature of a model to one further on in the next."""
    size = moments.sizes[0]
    index = torch.cat([torch.arange(size).roll(number * by) for number in range(len(moments.sizes))])
    return Matching(Assign(index, size), moments.sizes, 0.)


@RENORMALIZERS.register_module(name='mean_bias', needs=('ends',))
def mean_bias(model, loader, *, ends=None, factor=1.):
    """Give every layer the mean of the end models' biases."""
    for name, bias in model.named_parameters():
        if name.endswith('bias'):
            bias.data = factor * sum(end.get_parameter(name).data for end in ends) / len(ends)
'''


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))


@pytest.mark.parametrize('declared, message', [
    ("needs=('targets',)", "'mine' declares that it needs 'targets', which is none of its parameters"),
    ("needs=('ends', 'end')", "'mine' declares that it needs 'end', which no run gives. Runs give: samples, ends"),
    ('', "'mine' has the parameter 'ends', which runs give to those that declare it"),
    ("needs=('ends',), chooses=True", "'mine' declares that it chooses, and does not need 'validation'"),
    ("needs=('ends',), choice='last'", "'mine' declares that it chooses 'last'"),
])
def test_a_wrong_declaration_fails_when_it_is_imported(tmp_path, declared, message):
    path = tmp_path / 'wrong.py'
    path.write_text('from mmreuse.registry import RENORMALIZERS\n'
                    f"@RENORMALIZERS.register_module(name='mine', {declared})\n"
                    'def mine(model, loader, *, ends=None, factor=1.):\n    pass\n')
    with pytest.raises(TypeError, match=message):
        exec(compile(path.read_text(), str(path), 'exec'), {})
    assert 'mine' not in RENORMALIZERS.module_dict


def test_methods_in_one_file_are_found_by_name_from_a_config(tmp_path, monkeypatch):
    assert len(METHODS.splitlines()) <= 30
    (tmp_path / 'methods_of_mine.py').write_text(METHODS)
    (tmp_path / 'config.py').write_text(
        "custom_imports = dict(imports=['methods_of_mine'])\n"
        "matcher = dict(type='rolled', by=2)\nrenormalizers = [dict(type='mean_bias', factor=.5)]\n")
    monkeypatch.syspath_prepend(tmp_path)
    cfg = Config.fromfile(tmp_path / 'config.py')
    try:
        models, images = [network(0), network(1)], torch.randn(8, 3, 8, 8)
        merged = merge(models, [images], cfg.matcher, inputs=images[:1], heads='merge',
                       renormalizers=list(cfg.renormalizers))
        own, other = models[0][0].bias, models[1][0].bias
        expected = (own + other.roll(-2)) / 4
        torch.testing.assert_close(merged.trunk.get_submodule('0').bias, expected)
        with pytest.raises(ConfigError, match="'mean_bias' has no option 'facto'. Nearest: 'factor'"):
            find_method(RENORMALIZERS, dict(type='mean_bias', facto=1))
        cfg.matcher.moments = 1
        with pytest.raises(ConfigError, match="'moments' is given to rolled by the run"):
            check_config(cfg, partial=True)
    finally:
        MATCHERS.module_dict.pop('rolled')
        RENORMALIZERS.module_dict.pop('mean_bias')


def test_a_choice_is_settled_by_what_a_config_says():
    assert find_method(RENORMALIZERS, 'auto').chooses and find_method(RENORMALIZERS, 'bias_removal').chooses
    assert not find_method(RENORMALIZERS, dict(type='bias_removal', last=2)).chooses
    assert not find_method(RENORMALIZERS, 'repair').chooses
    removal = find_method(RENORMALIZERS, bias_removal)  # the function itself declares the same
    assert removal.chooses and not removal.bind(**{removal.choice: 1}).chooses


def test_a_function_that_is_not_registered_gets_what_its_parameters_say():
    seen = {}

    def mine(model, loader, *, ends=None, samples=None, factor=1.):
        seen.update(ends=ends, samples=samples, factor=factor)

    net, found = network(), find_method(RENORMALIZERS, partial(mine, samples=3))
    apply_renormalizers(net, [], found, ends=['end'], samples=9, targets=['goal'])
    assert seen == dict(ends=['end'], samples=3, factor=1.)
    assert found.name == 'mine' and set(found.needs) == {'ends', 'samples'} and not found.chooses
    assert find_method(RENORMALIZERS, found) is found


def test_what_only_a_run_can_give_is_no_option():
    with pytest.raises(ConfigError, match="saliency 'woodfisher' has no option 'fisher'. It has none."):
        find_method(SALIENCIES, dict(type='woodfisher', fisher=1))
    with pytest.raises(ConfigError, match=r'saliency = 2 is none. Give its name, or dict.type=NAME'):
        find_method(SALIENCIES, 2)
    assert find_method(SALIENCIES, 'magnitude').data_free and not find_method(SALIENCIES, 'woodfisher').data_free


def test_functions_that_hand_options_on_have_the_signature_of_those():
    assert 'max_gain' in inspect.signature(repair).parameters and 'scale' not in inspect.signature(repair).parameters
    with pytest.raises(ConfigError, match="'reshift' has no option 'max_gain'"):
        find_method(RENORMALIZERS, dict(type='reshift', max_gain=2.))


def test_a_requirement_speaks_for_every_way_to_name_a_method():
    for method in ('reset', dict(type='reset', samples=2), reset, find_method(RENORMALIZERS, 'reset')):
        assert method_name(method) == 'reset'
        with pytest.raises(SpaceError, match="renormalizer 'reset' has nothing to reset: Sequential has no batch norm"):
            check_fit(method, network())
    check_fit('bias_removal', network())
