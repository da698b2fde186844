"""Modules with gates: what is trained, what is kept, how a run goes on, how budgets are held."""
import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmreuse.engine.launch import build_runner, load_config
from mmreuse.engine.run_config import run_config
from mmreuse.errors import ConfigError, DataError
from mmreuse.models import ModularClassifier
from mmreuse.models.classifiers.module_files import load_base, read_modules
from mmreuse.modularization import apply_module, compact, count_uses, frozen_hash, materialize, measure_cost
from mmreuse.modularization.compaction.compaction import difference
from mmreuse.modularization.masks.budget import hold_gates, rank_gates
from mmreuse.utils.files.io import load_checkpoint

GATED = """
model.update(input_size=(3, 8, 8), gates=4, cost='flops')
custom_hooks = [
    dict(type='MaskInitHook'),
    dict(type='GateBudgetHook', ratio=0.5, end=0.25),
    dict(type='ModuleSelectionHook', max_ratio=1.)
]
"""


class Net(nn.Module):
    """A residual block between two convolutions."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv1, self.conv2 = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.last, self.fc = nn.Conv2d(8, 6, 3, stride=2), nn.Linear(6, 5)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        x = (x + self.conv2(self.conv1(x).relu())).relu()
        return self.fc(self.last(x).relu().mean((2, 3)))


@pytest.fixture
def model():
    """Gates of 8, 12 and 6 members, about half of them closed, and masks about half of which are."""
    torch.manual_seed(0)
    model = ModularClassifier(dict(model=Net()), in_classes=5, input_size=(3, 9, 9), gates=1, cost='flops').eval()
    with torch.no_grad():
        for parameter in model.switches().values():
            parameter.uniform_(-1, 1)
    return model


def test_names(model):
    plain = ModularClassifier(dict(model=Net()), in_classes=5)
    assert model.state_dict().keys() - plain.state_dict().keys() == {'gates.stem', 'gates.conv1', 'gates.last'}
    assert not plain.state_dict().keys() - model.state_dict().keys()
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        *(name for name in model.state_dict() if name.endswith('_mask') or name.startswith('gates.')),
        'module_head.1.weight', 'module_head.1.bias'}


def test_what_is_kept_computes_the_same_and_compacts(model):
    x = torch.randn(4, 3, 9, 9)
    with torch.no_grad():
        expected = model(x)
        state = model.kept()
        closed = {name: gate <= 0 for name, gate in model.gates.named_parameters()}
        assert not state['conv2.weight_mask'][:, closed['conv1']].any()
        assert not state['conv1.weight_mask'][closed['conv1']].any()
        assert not state['stem.bias_mask'][closed['stem']].any()
        model.load_kept(state)
        torch.testing.assert_close(model(x), expected)
    assert all(kept.equal(state[name]) for name, kept in model.kept().items())
    network = nn.Sequential(materialize(model.base), model.module_head)
    small = compact(network, x)
    assert difference(network, small, (x,)) < 1e-5
    torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # Members that are open but that no mask reads go, too.
    assert small[0].conv1.out_channels <= int((~closed['conv1']).sum())


def test_training_moves_masks_gates_and_head_only(model):
    model.train()
    before, frozen = {name: each.clone() for name, each in model.switches().items()}, frozen_hash(model.base)
    optimizer = torch.optim.Adam([each for each in model.parameters() if each.requires_grad], lr=0.1)
    model(torch.randn(8, 3, 9, 9)).square().sum().backward()
    closed = {name: gate <= 0 for name, gate in model.gates.named_parameters()}
    assert all(gate.grad[closed[name]].abs().sum() > 0 for name, gate in model.gates.named_parameters())
    optimizer.step()
    assert frozen_hash(model.base) == frozen
    assert all((each != before[name]).any() for name, each in model.switches().items())
    model.train_only_head(True)
    assert not any(each.requires_grad for each in model.switches().values())


@pytest.mark.parametrize('share', [1, .7, .3, .1])
@pytest.mark.parametrize('step', [1, 4])
def test_the_budget_is_held_and_used(model, share, step):
    before = {name: gate.detach().clone() for name, gate in model.gates.named_parameters()}
    model.gates.step = step
    hold_gates(model.gates, share, model.rates)
    opened = {name: (gate > 0).float() for name, gate in model.gates.named_parameters()}
    assert float(model.gates.cost(model.rates, opened)) <= share + 1e-6
    values = {}
    for name, gate in model.gates.named_parameters():
        order = before[name].argsort(descending=True)
        assert (gate[order].diff() <= 0).all()  # order stays
        assert int((gate > 0).sum()) in {*range(0, len(gate), step), len(gate)}
        values |= {(name, tuple(block.tolist())): float(before[name][block].mean()) for block in order.split(step)}
    assert model.gates.vital == ['stem', 'last']
    closed = {key for key in values if opened[key[0]][list(key[1])].sum() == 0}
    largest = {max((key for key in values if key[0] == name), key=values.get) for name in model.gates.vital}
    assert not closed & largest
    assert not closed or max(values[key] for key in closed) <= min(
        (values[key] for key in values.keys() - closed - largest), default=2)
    if closed:  # with the last one it would be too much
        name, block = max(closed, key=values.get)
        opened[name][list(block)] = 1
        assert float(model.gates.cost(model.rates, opened)) > share


def test_the_gradient_of_the_cost(model):
    model.gates.cost(model.rates).backward()
    leaves = {name: (gate > 0).double().requires_grad_() for name, gate in model.gates.named_parameters()}
    stem, conv1, last = (leaves[name].sum() for name in ('stem', 'conv1', 'last'))
    maps, small = 9 * 9 * 9, 9 * 4 * 4
    cost = maps * (3 * stem + 2 * stem * conv1) + small * stem * last + 5 * last
    (cost / (maps * (3 * 8 + 2 * 8 * 12) + small * 8 * 6 + 5 * 6)).backward()
    for name, gate in model.gates.named_parameters():
        torch.testing.assert_close(gate.grad.double(), leaves[name].grad, rtol=1e-5, atol=1e-7)


def test_gates_start_with_saliency_for_its_cost(model):
    found = {name: torch.rand(len(gate)) for name, gate in model.gates.named_parameters()}
    rank_gates(model.gates, found, model.rates)
    maps, small = 9 * 9 * 9, 9 * 4 * 4
    price = dict(stem=maps * (3 + 2 * 12) + small * 6, conv1=maps * 2 * 8, last=small * 8 + 5)
    worth = torch.cat([found[name] / price[name] for name, _ in model.gates.named_parameters()])
    ranks = torch.cat(list(model.gates.parameters())).detach()
    torch.testing.assert_close(ranks[worth.argsort()], torch.arange(1, 27) / 26)


@pytest.mark.parametrize('options, message', [
    (dict(gates=1), 'input_size='), (dict(cost='flops'), 'input_size='), (dict(cost='flop'), "Nearest: 'flops'"),
    (dict(gates=1, input_size=(3, 9, 9), problems=2), 'one problem at a time')])
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        ModularClassifier(dict(model=Net()), in_classes=5, **options)


def test_budgets_that_cannot_be_held(model):
    with pytest.raises(ConfigError, match='what cannot be closed'):
        hold_gates(model.gates, .01, model.rates)
    with pytest.raises(ConfigError, match='share of 0'):
        hold_gates(model.gates, 0, model.rates)
    with torch.no_grad():
        next(model.gates.parameters())[0] = float('nan')
    with pytest.raises(DataError, match='diverged'):
        hold_gates(model.gates, .5, model.rates)


# -- runs ----------------------------------------------------------------------------


class Kill(Hook):
    """Ends a run behind its third epoch."""

    priority = 'LOWEST'

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == 3:
            raise KeyboardInterrupt


def test_a_run_makes_a_module_that_compacts(config, tmp_path):
    path = config(extra=GATED)
    metrics = run_config(path, work_dir=tmp_path / 'run')
    assert metrics['module/accuracy'] > .85 and metrics['test/accuracy/top1'] > 75
    kept = load_checkpoint(tmp_path / 'run' / 'selection.pth')
    cfg = load_config(str(path))
    base, (module,) = load_base(cfg), read_modules(cfg, tmp_path / 'run' / 'selection.pth')
    masked, x = apply_module(module, base), torch.zeros(1, 3, 8, 8)
    small = compact(masked, x)
    dense, left = (measure_cost(each.network, count_uses(each.network, x)).layers for each in (masked, small))
    assert sum(each.dense for each in left.values()) <= .5 * sum(each.dense for each in dense.values())
    assert metrics['module/ratio'] == pytest.approx(
        sum(int(mask.sum()) for mask in module.masks.values()) / sum(mask.numel() for mask in module.masks.values()))

    cfg.work_dir = str(tmp_path / 'killed')
    runner = build_runner(cfg)
    runner.register_hook(Kill())
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    again = run_config(path, work_dir=cfg.work_dir, resume=True)
    state = load_checkpoint(f'{cfg.work_dir}/selection.pth')
    assert state['selections'] == kept['selections'] and again['test/accuracy/top1'] == metrics['test/accuracy/top1']
    last = [load_checkpoint(f'{folder}/epoch_8.pth')['state_dict'] for folder in (tmp_path / 'run', cfg.work_dir)]
    gates = [name for name in last[0] if name.startswith('gates.')]
    assert gates and all(last[0][name].equal(last[1][name]) for name in gates)


def test_masks_get_the_budget_that_closed_gates_leave(config, tmp_path):
    path = config(extra=GATED.replace("    dict(type='ModuleSelectionHook', max_ratio=1.)",
                                      "    dict(type='MaskBudgetHook', ratio=0.2, end=0.5),\n"
                                      "    dict(type='ModuleSelectionHook', max_ratio=0.9)"))
    run_config(path, work_dir=tmp_path / 'run', options={'model.cost': 'weights', 'train_cfg.max_epochs': 4})
    history = load_checkpoint(tmp_path / 'run' / 'selection.pth')['selections'][0]['history']
    assert history[-1]['ratio'] == pytest.approx(.2, abs=.002)


FLOPS = """
model.update(input_size=(3, 8, 8), cost='flops')
train_cfg = dict(max_epochs=4)
custom_hooks = [
    dict(type='MaskInitHook'),
    dict(type='MaskBudgetHook', ratio=0.3, end=0.5),
    dict(type='ModuleSelectionHook', max_ratio=1.)
]
"""


def test_a_budget_of_operations_for_masks_alone(config, tmp_path):
    path = config(extra=FLOPS)
    run_config(path, work_dir=tmp_path / 'run')
    kept = load_checkpoint(tmp_path / 'run' / 'selection.pth')
    assert kept['selections'][0]['best']['epoch'] >= 2  # not before the budget was reached
    cfg = load_config(str(path))
    base = load_base(cfg)
    uses = count_uses(base, torch.zeros(1, 3, 8, 8))
    layers = measure_cost(base, uses, kept['kept'][0]['masks']).layers.values()
    assert sum(each.sparse for each in layers) == pytest.approx(.3 * sum(each.dense for each in layers), rel=.01)


def test_a_budget_without_gates(config, tmp_path):
    with pytest.raises(ConfigError, match='model has no gates'):
        run_config(config(extra=GATED.replace('gates=4', 'gates=None')), work_dir=tmp_path / 'run')
