"""A run never goes on, or is measured, with weights that its checkpoint did not give it."""
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from small_training import Net, make_runner
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.utils.files.io import load_checkpoint


def save(path, state, **more):
    torch.save(dict(state_dict=state, **more), path)
    return str(path)


def other_head():
    state = Net().state_dict()
    return {**state, 'inner.3.weight': torch.ones(5, 8), 'inner.3.bias': torch.ones(5)}


@pytest.mark.parametrize('state, said', [
    (nn.Conv2d(2, 2, 1).state_dict(), "it lacks 'inner.0.weight'"), ({}, 'holds no weights'),
    (other_head(), r"'inner.3.weight' has shape \(5, 8\)"),
    ({name: tensor for name, tensor in Net().state_dict().items() if name != 'inner.0.bias'}, "lacks 'inner.0.bias'"),
    ({**Net().state_dict(), 'inner.0.bias': torch.full((8,), torch.nan)}, 'NaN')])
def test_load_from_is_strict(state, said, tmp_path):
    path = save(tmp_path / 'other.pth', state)
    with pytest.raises(ArtefactError, match=f'other.pth.*{said}'):
        make_runner(tmp_path, load_from=path).train()


def test_another_head_can_be_asked_for(tmp_path):
    path = save(tmp_path / 'other.pth', other_head())
    runner = make_runner(tmp_path, load_from=path, cfg=dict(load_strict=False))
    runner.load_or_resume()
    assert torch.equal(runner.model.inner[0].weight, load_checkpoint(path)['state_dict']['inner.0.weight'])
    assert runner.model.inner[3].weight.shape == (2, 8)


def test_a_run_resumes_strictly_whatever_load_from_may_lack(tmp_path):
    make_runner(tmp_path, epochs=1).train()
    checkpoint = load_checkpoint(tmp_path / 'epoch_1.pth')
    del checkpoint['state_dict']['inner.0.bias']
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    with pytest.raises(ArtefactError, match="lacks 'inner.0.bias'"):
        make_runner(tmp_path, resume=True, cfg=dict(load_strict=False)).train()


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('hooks', [[dict(type='EMAHook', momentum=.5)], []])
def test_averaged_weights_are_what_is_tested(hooks, prefix, tmp_path):
    """Through a hook that is configured, and because they are the checkpoint's, without it."""
    trained = make_runner(tmp_path, epochs=1, custom_hooks=[dict(type='EMAHook', momentum=.5)])
    trained.train()
    ema, = (hook for hook in trained.hooks if hasattr(hook, 'ema_model'))
    averaged = ema.ema_model.module.state_dict()
    raw = trained.model.state_dict()
    assert not torch.equal(averaged['inner.0.weight'], raw['inner.0.weight'])
    checkpoint = load_checkpoint(tmp_path / 'epoch_1.pth')
    checkpoint['state_dict'] = {prefix + name: tensor for name, tensor in checkpoint['state_dict'].items()}
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')

    tested = make_runner(tmp_path / 'test', load_from=str(tmp_path / 'epoch_1.pth'), custom_hooks=hooks)
    tested.call_hook('before_run')
    tested.load_or_resume()
    tested.call_hook('before_test_epoch')
    assert all(torch.equal(averaged[name], parameter) for name, parameter in tested.model.named_parameters())


@pytest.mark.parametrize('options, said', [
    (dict(), "lacks '0.weight'"), (dict(prefix='backbone.'), "init_cfg.prefix = 'backbone.'. Nearest: 'back.'")])
def test_pretrained_parts_are_strict(options, said, tmp_path):
    path = save(tmp_path / 'net.pth', nn.ModuleDict(dict(back=nn.Sequential(nn.Linear(2, 2)))).state_dict())

    DefaultScope.get_instance('strict loading', scope_name='mmreuse')

    def build(**options):
        part = BaseModule(init_cfg=dict(type='Pretrained', checkpoint=path, **options))
        part.add_module('0', nn.Linear(2, 2))
        part.init_weights()
        return part

    with pytest.raises(ArtefactError, match=said):
        build(**options)
    assert torch.equal(build(prefix='back.').get_parameter('0.weight'),
                       load_checkpoint(path)['state_dict']['back.0.weight'])
