"""What a network is taught, what it learns of it, and what is measured beside it."""
import math

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.apis import distill
from mmreuse.calibration import Source
from mmreuse.distillation import Objective, Scoring, plain_scoring, same_classes
from mmreuse.distillation import distill as distill_in_place
from mmreuse.distillation.controls import FeatureHead, closed_form_heads, random_start, starts
from mmreuse.errors import ConfigError, DataError
from mmreuse.evaluation.tasks import RULES, joint_log_probabilities, joint_prediction
from mmreuse.graph import copy_model

TASKS = [[0, 2], [1, 3, 4]]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmreuse')


def net(classes: int = 5, seed: int = 0, width: int = 16) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, classes)).eval()


def images(count: int = 200, seed: int = 1) -> torch.Tensor:
    return 2 * torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('outputs', [1, 2])
def test_the_most_probable_class_is_the_joint_prediction(rule, outputs):
    scores = 3 * torch.randn(300, outputs, 6, generator=torch.Generator().manual_seed(outputs))
    found = joint_log_probabilities(scores, TASKS, rule)
    assert torch.equal(found.argmax(1), joint_prediction(scores, TASKS, rule))
    assert found.exp().sum(1).allclose(torch.ones(300))
    assert found[:, 5].isneginf().all()  # a class of no task


def test_scores_that_are_missing_leave_finite_gradients():
    scores = torch.randn(4, 2, 5)
    scores[:, 0, TASKS[1]] = -math.inf
    scores[:, 1, TASKS[0]] = -math.inf
    scores.requires_grad_()
    found = joint_log_probabilities(scores, TASKS)
    found.where(found.isfinite(), 0).sum().backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize('teacher', ['joint', 'per_task', dict(type='joint', temperature=4.), 'features'])
def test_a_student_that_equals_its_teacher_has_no_loss_and_no_gradient(teacher):
    teacher_net = net()
    student = copy_model(teacher_net)
    scoring = Scoring(lambda x: student(x)[:, None], lambda x: teacher_net(x)[:, None], TASKS, 'text')
    loss, = Objective(scoring, [teacher], student, [Source(teacher_net)]).losses(images()).values()
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert all(parameter.grad is None or parameter.grad.abs().max() < 1e-5 for parameter in student.parameters())


def test_joint_target_of_several_teachers_is_what_the_evaluation_of_their_ensemble_predicts():
    sources = torch.randn(50, 2, 5) * 3
    own = torch.zeros(50, 1, 5, requires_grad=True)
    optimizer = torch.optim.Adam([own], 0.3)
    objective = Objective(Scoring(lambda _: own, lambda _: sources, TASKS, 'text'), ['joint'])
    for _ in range(200):
        optimizer.zero_grad()
        sum(objective.losses(None).values()).backward()
        optimizer.step()
    assert torch.equal(joint_prediction(own.detach(), TASKS, 'text'), joint_prediction(sources, TASKS, 'text'))


def test_the_surest_source_is_the_one_that_the_ensemble_follows():
    sources = torch.randn(50, 2, 5) * 3
    own = torch.zeros(50, 1, 5, requires_grad=True)
    optimizer = torch.optim.Adam([own], 0.3)
    objective = Objective(Scoring(lambda _: own, lambda _: sources, TASKS, 'text'))
    for _ in range(200):
        optimizer.zero_grad()
        sum(objective.losses(None).values()).backward()
        optimizer.step()
    predicted = joint_prediction(own.detach(), TASKS, 'text')
    assert torch.equal(predicted, joint_prediction(sources, TASKS, 'text'))
    share = own.detach()[:, 0].softmax(1)[:, TASKS[0]].sum(1)  # one task has all of an image
    assert torch.minimum(share, 1 - share).max() < 0.05


def test_a_small_changed_network_comes_back():
    teacher, data = net(), images(600)
    student = copy_model(teacher)
    with torch.no_grad():
        student[0].weight[8:] = 0  # half of its units
    before = student[0].weight.clone()
    report = distill_in_place(student, Objective(same_classes(student, [teacher])), data[:500], data[500:], steps=100,
                              lr=0.01, every=25)
    assert list(report.agreement) == [0, 25, 50, 75, 100]
    assert report.agreement[report.steps] == max(report.agreement.values()) > report.agreement[0] + 10
    assert not torch.equal(student[0].weight, before) and not student.training


def test_no_steps_change_nothing_and_the_best_state_is_kept():
    teacher, data = net(), images()
    student = net(seed=1)
    state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    objective = Objective(same_classes(student, [teacher]))
    assert distill_in_place(student, objective, data[:100], data[100:], steps=0).steps == 0
    assert all(torch.equal(tensor, state[name]) for name, tensor in student.state_dict().items())
    twin = copy_model(teacher)  # agrees with itself: what steps of a huge rate spoil is not kept
    report = distill_in_place(twin, Objective(same_classes(twin, [teacher]), [dict(type='joint', temperature=9.)]),
                              data[:100], data[100:], steps=10, lr=1e3, every=5)
    assert report.steps == 0 and all(torch.equal(a, b) for a, b in zip(twin.parameters(), teacher.parameters(),
                                                                        strict=True))


def test_features_are_compared_in_the_coordinates_of_the_changed_network():
    from mmreuse.graph import Permute, trace, transform
    teacher = net()
    graph = trace(teacher, torch.zeros(1, 8))
    space, = (name for name, space in graph.spaces.items() if space.size == 16)
    maps = {space: Permute(torch.randperm(16, generator=torch.Generator().manual_seed(0)))}
    student = transform(graph, maps)
    scoring = same_classes(student, [teacher])
    wrong, right = (Objective(scoring, ['features'], student, [source]).losses(images())['loss_features'].item()
                    for source in (Source(teacher), Source.mapped(graph, maps)))
    assert right < 1e-8 < 0.1 < wrong


def test_outputs_of_sources_are_told_apart_by_their_numbers():
    a, b, data = net(2), net(3, 1), images(20)
    joint, same = net(5), net(2, 2)
    assert plain_scoring(joint, [a, b], data[:1]).tasks == [[0, 1], [2, 3, 4]]
    assert plain_scoring(joint, [a, b], data[:1]).sources(data)[:, 1, :2].isneginf().all()
    assert plain_scoring(same, [a, a], data[:1]).tasks is None
    with pytest.raises(ConfigError, match='outputs of'):
        plain_scoring(net(4), [a, b], data[:1])


@pytest.mark.parametrize('options, error, message', [
    (dict(steps=-1), ConfigError, 'steps=-1'), (dict(teachers=['join']), ConfigError, "Nearest: 'joint'"),
    (dict(teachers=['features']), ConfigError, 'compares features'),
    (dict(lr=math.inf), DataError, 'NaN or infinite'),
])
def test_mistakes_are_told(options, error, message):
    with pytest.raises(error, match=message):
        distill(net(seed=1), [net()], images(), controls=False, **{'steps': 5, **options})


def test_controls_stand_beside_the_result_unless_they_are_asked_away():
    a, b, data = net(2), net(2, 1), images(300)
    changed, result = distill(net(2, 2), [a, b], data, steps=10)
    assert [row['network'] for row in result.networks] == [
        'before', 'distilled', 'random', 'from source 0', 'from source 1', 'average', 'head on source 0',
        'head on source 1', 'head on all', 'ensemble']
    costs = {row['network']: row['cost'] for row in result.networks}
    assert costs['distilled'] == 1 and costs['ensemble'] == 2
    assert costs['head on all'] > 2 > costs['head on source 0'] >= 1
    assert 'from source 0' in str(result)
    alone, short = distill(net(2, 2), [a, b], data, steps=10, controls=False)
    assert [row['network'] for row in short.networks] == ['before', 'distilled']
    assert all(torch.equal(x, y) for x, y in zip(changed.parameters(), alone.parameters(), strict=True))
    wide = {name: start for name, start in starts(net(2, width=8), dict(a=a)).items() if start is None}
    assert list(wide) == ['from a']


def test_a_closed_form_head_finds_a_head_that_there_is():
    teacher, data = net(), images(400)
    head = closed_form_heads(dict(a=teacher), same_classes(teacher, [teacher]), data)['head on a']
    assert head(data).allclose(teacher(data), atol=1e-2)
    with pytest.raises(ConfigError, match='no linear layer'):
        FeatureHead([nn.Conv1d(1, 1, 1)]).features(torch.zeros(2, 1, 3))


def test_random_starts_are_seeded_and_leave_the_generator_alone():
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    network.token = nn.Parameter(torch.zeros(3))
    state = torch.random.get_rng_state()
    first, again, other = (random_start(network, seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first[0].weight, again[0].weight) and not torch.equal(first[0].weight, other[0].weight)
    assert first.token.abs().max() > 0 and torch.equal(first[1].weight, torch.ones(3))
