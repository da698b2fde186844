"""Attacks stay within what they may do; inheritance is what it is on networks where that is known."""
import pytest
import torch
from torch import nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.robustness import Attacker, defect_inheritance, feature_pgd, find_attack, noise, pixel_bounds
from mmreuse.utils.files.cache import StageCache

MEAN, STD = (torch.tensor(numbers).view(3, 1, 1) for numbers in ([123., 116., 104.], [58., 57., 57.]))
BOUNDS = pixel_bounds(MEAN, STD)


@pytest.fixture
def images():
    """Normalised images of 0..255, with pixels at both ends."""
    pixels = torch.randint(256, (8, 3, 6, 6), generator=torch.Generator().manual_seed(1)).float()
    pixels[:, :, 0] = 0.
    pixels[:, :, 1] = 255.
    return (pixels - MEAN) / STD


@pytest.fixture
def features():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def generator():
    return torch.Generator().manual_seed(0)


def distance(features, images):
    outputs = features(images)
    return (outputs[:, 0] - 1000).square() + 0.1 * outputs[:, 1:].square().mean(1)


@pytest.mark.parametrize('name', ['feature_pgd', 'noise'])
@pytest.mark.parametrize('eps', [0., 0.03, 0.2])
def test_attacked_images_stay_within_eps_and_bounds(name, eps, images, features, tmp_path):
    attack = Attacker(features, BOUNDS, StageCache(tmp_path))
    moved = attack(images, dict(type=name, eps=eps))
    assert (moved - images).abs().max() <= eps * (1 + 2 ** -11) + 1e-6
    pixels = moved * STD + MEAN
    assert pixels.min() >= -1e-3 and pixels.max() <= 255 + 1e-3
    assert torch.equal(moved, images) == (eps == 0)


def test_attack_moves_features_where_noise_does_not(images, features):
    with torch.no_grad():
        before = distance(features, images)
        found = {name: distance(features, images + attack(features, images, BOUNDS, generator(), eps=0.1)) - before
                 for name, attack in dict(pgd=feature_pgd, noise=noise).items()}
    assert (found['pgd'] < 0).all()
    assert found['pgd'].mean() < 5 * found['noise'].mean().clamp(max=0)


def test_linear_features_are_attacked_in_the_closed_form(images):
    """Of linear features far below the target, the gradient's signs do not change: every pixel goes to its end."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 2)).requires_grad_(False)
    linear[1].weight[1] = 0.
    wide = tuple(bound * 10 for bound in BOUNDS)
    found = feature_pgd(linear, images, wide, generator(), eps=0.05, step=0.01, iterations=12)
    assert torch.allclose(found, 0.05 * linear[1].weight[0].sign().view(1, 3, 6, 6).expand_as(found))


@pytest.mark.parametrize('iterations', [1, 4])
@pytest.mark.parametrize('clip', [2.2, None])
def test_the_published_attack_written_another_way(iterations, clip, images, features, tmp_path):
    """What a published step gives, on attacked images rather than perturbations: also the start is held to the clip."""
    low, high = BOUNDS if clip is None else (torch.tensor(-clip), torch.tensor(clip))
    start = (2 * torch.rand(images.shape, generator=generator()) - 1) * 0.1
    moved = torch.minimum(torch.maximum(images + start, low), high)
    for _ in range(iterations):
        gradient, = torch.autograd.grad(distance(features, moved.requires_grad_()).sum(), moved)
        change = (moved.detach() - images - 0.01 * gradient.sign()).clamp(-0.1, 0.1)
        moved = torch.minimum(torch.maximum(images + change, low), high)
    attack = dict(type='feature_pgd', eps=0.1, step=0.01, iterations=iterations)
    attack |= {} if clip is None else dict(clip=clip)
    found = Attacker(features, BOUNDS, StageCache(tmp_path))(images, attack)
    torch.testing.assert_close(found, moved.detach(), atol=1e-3, rtol=0)


def test_published_clip_cuts_off_bright_pixels_without_any_attack(images, features, tmp_path):
    attack = Attacker(features, BOUNDS, StageCache(tmp_path))
    clipped = attack(images, dict(type='noise', eps=0., clip=2.2))
    assert torch.equal(clipped, images.clamp(-2.2, 2.2)) and not torch.equal(clipped, images)


def test_weights_get_no_gradients_and_statistics_stand_still(images, features, tmp_path):
    features.train()
    before = {name: tensor.clone() for name, tensor in features.state_dict().items()}
    Attacker(features, BOUNDS, StageCache(tmp_path))(images, dict(type='feature_pgd', iterations=3))
    assert all(parameter.grad is None for parameter in features.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in features.state_dict().items())


def test_kept_images_are_those_that_would_be_made_anew(images, features, tmp_path):
    cfg = dict(type='feature_pgd', eps=0.1, iterations=5)
    attack = Attacker(features, BOUNDS, StageCache(tmp_path / 'a'))
    first = attack(images, cfg, seed=3)
    assert torch.equal(attack(images, cfg, seed=3), first)
    assert len(list((tmp_path / 'a').glob('adversarial/*/key.json'))) == 1
    assert torch.equal(Attacker(features, BOUNDS, StageCache(tmp_path / 'b'))(images, cfg, seed=3), first)


@pytest.mark.parametrize('change', ['network', 'images', 'attack', 'seed', 'clip'])
def test_whatever_images_are_made_from_makes_others(change, images, features, tmp_path):
    cfg, cache = dict(type='feature_pgd', eps=0.1, iterations=2), StageCache(tmp_path)
    Attacker(features, BOUNDS, cache)(images, cfg)
    if change == 'network':
        with torch.no_grad():
            features[0].weight[0, 0, 0, 0] += 1
    changed = dict(attack=dict(cfg, eps=0.2), clip=dict(cfg, clip=2.2)).get(change, cfg)
    Attacker(features, BOUNDS, cache)(images + (change == 'images') * 0.01, changed, seed=int(change == 'seed'))
    assert len(list(tmp_path.glob('adversarial/*/key.json'))) == 2


def test_a_student_that_is_its_teacher_with_a_linear_output_inherits_its_defects(images, features, tmp_path):
    attack = Attacker(features, BOUNDS, StageCache(tmp_path))
    rates = {}
    with torch.no_grad():
        limit = features(images)[:, 0].quantile(0.7)
        for name, eps in [('feature_pgd', 0.6), ('noise', 0.6), ('feature_pgd', 0.)]:
            clean, attacked = (features(each)[:, 0] <= limit
                               for each in (images, attack(images, dict(type=name, eps=eps))))
            rates[name, eps] = defect_inheritance(clean, attacked).rate
    assert rates['feature_pgd', 0.6] > 80 and rates['noise', 0.6] < 30 and rates['feature_pgd', 0.] == 0


def test_rate_counts_only_what_was_right():
    clean = torch.tensor([True] * 8 + [False] * 2)
    attacked = torch.tensor([True] * 6 + [False] * 3 + [True])
    found = defect_inheritance(clean, attacked)
    assert (found.rate, found.clean, found.attacked) == (25., 80., 70.)
    assert found.low < 25 < found.high


def test_interval_has_the_closed_form_of_wilson():
    """Its ends are the shares from which what was seen is 1.96 deviations away."""
    for count, total in [(0, 10), (3, 10), (190, 1000), (10, 10)]:
        found = defect_inheritance(torch.ones(total, dtype=torch.bool), torch.arange(total) >= count)
        for end in (found.low / 100, found.high / 100):
            assert (count / total - end) ** 2 == pytest.approx(1.959964 ** 2 * end * (1 - end) / total, abs=1e-8)


@pytest.mark.parametrize('clean, attacked', [([False, False], [True, True]), ([True], [True, False])])
def test_undefined_rates_are_refused(clean, attacked):
    with pytest.raises(DataError, match='undefined'):
        defect_inheritance(torch.tensor(clean), torch.tensor(attacked))


@pytest.mark.parametrize('options, message', [
    (dict(eps=-1.), '0 or more'), (dict(eps=float('nan')), '0 or more'), (dict(step=0.), 'positive'),
    (dict(iterations=0), 'positive'), (dict(step=float('nan')), 'positive')])
def test_wrong_numbers_are_refused(options, message, images, features):
    with pytest.raises(ConfigError, match=message):
        feature_pgd(features, images, BOUNDS, generator(), **options)


@pytest.mark.parametrize('cfg, message', [
    (dict(type='feature_pdg'), 'feature_pgd'), (dict(type='noise', epsilon=1.), "no option 'epsilon'.*'eps'")])
def test_unknown_attacks_and_options_are_refused(cfg, message):
    with pytest.raises(ConfigError, match=message):
        find_attack(cfg)


def test_features_that_cannot_be_attacked_are_refused(images):
    with pytest.raises(DataError, match='pooled'):
        feature_pgd(nn.Conv2d(3, 8, 3), images, BOUNDS, generator())
