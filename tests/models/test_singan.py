"""SinGAN: sizes, the generator as a function of noise, training scale by scale, merging."""
import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper

from mmreuse.engine.training.optim_wrapper import AutocastOptimWrapper
from mmreuse.errors import ConfigError, DataError
from mmreuse.graph import Permute, trace, transform
from mmreuse.merging.merge import merge
from mmreuse.models import SinGAN, SinGANGenerator
from mmreuse.models.generators.singan import resize, scale_sizes

SIZE = (20, 28)


def small(**options) -> SinGAN:
    return SinGAN(SIZE, min_size=12, factor=0.6, **{'channels': 4, 'steps': 2, **options})


def image() -> dict:
    """A dark sky over a bright ground, with noise: what a loader gives."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(0, 60, (3, *SIZE), generator=generator, dtype=torch.uint8)
    image[:, SIZE[0] // 2:] += 150
    return dict(inputs=[image])


def scaled(size: tuple[int, int]) -> torch.Tensor:
    """The image as the model sees it: (1, 3, *size), -1 to 1."""
    return resize(image()['inputs'][0][None] / 127.5 - 1, size)


def optimizer_of(model: SinGAN) -> OptimWrapper:
    return OptimWrapper(torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.5, 0.999)))


def shaken(generator: SinGANGenerator) -> SinGANGenerator:
    """With statistics and amplitudes unlike those that a net starts with."""
    for module in generator.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.bias, 0, 0.5)
            torch.nn.init.normal_(module.running_mean, 0, 0.02)
            torch.nn.init.uniform_(module.running_var, 0.01, 0.05)
    torch.nn.init.uniform_(generator.amplitudes, 0.5, 1.5)
    return generator.eval()


# -- sizes


@pytest.mark.parametrize('image', [(427, 640), (640, 427), (250, 250), (100, 130), (25, 60)])
def test_pyramid_goes_from_the_smallest_size_to_the_largest_in_equal_steps(image):
    sizes = scale_sizes(image)
    assert min(sizes[0]) == 25
    assert sizes[-1] == tuple(round(side * min(1, 250 / max(image))) for side in image)
    for (height, width), (higher, wider) in itertools.pairwise(sizes):
        # Rounding to pixels moves a ratio by one pixel in the larger size at most.
        assert 0.75 - 1 / higher <= height / higher < 1 and abs(height / higher - width / wider) < 1.5 / higher


@pytest.mark.parametrize('options', [dict(min_size=200), dict(min_size=0), dict(factor=1.), dict(max_size=20)])
def test_pyramid_that_cannot_be_is_refused(options):
    with pytest.raises(ConfigError, match='SinGAN'):
        scale_sizes((427, 640), **options)


def test_coarsest_scale_must_hold_what_the_discriminator_sees():
    with pytest.raises(ConfigError, match='raise min_size'):
        SinGAN(SIZE, min_size=10)
    with pytest.raises(ConfigError, match="mode 'loss'"):
        small()(torch.zeros(1, 1), mode='loss')


# -- the generator


def test_features_double_every_four_scales():
    generator = SinGANGenerator([(12, 12)] * 13)
    assert generator.widths == [32] * 4 + [64] * 4 + [128] * 5
    assert [scale[0].conv.out_channels for scale in generator.scales] == generator.widths


def test_noise_comes_as_maps_or_as_one_vector():
    generator = shaken(small().generator)
    maps = generator.draw_noise(2)
    vector = torch.cat([each.flatten(1) for each in maps], dim=1)
    assert vector.shape == (2, generator.noise_size)
    assert torch.equal(generator(maps), generator(vector)) and generator(maps).shape == (2, 3, *SIZE)
    larger = [torch.randn(1, 3, 2 * height, width) for height, width in generator.sizes]
    assert generator(larger).shape == (1, 3, 2 * SIZE[0], SIZE[1])


def test_a_scale_adds_what_it_sees_within_eleven_pixels():
    generator = shaken(SinGANGenerator([(25, 25), (25, 25)], channels=4)).double()
    image, noise = torch.randn(2, 1, 3, 25, 25, dtype=torch.float64)
    noise.requires_grad_()
    made = generator.refine(1, image, noise)
    slope, = torch.autograd.grad(made[0, :, 12, 12].sum(), noise)
    seen = slope[0].abs().sum(0) > 0
    assert seen[7:18, 7:18].all() and seen.sum() == 11 * 11
    # Without noise and image the net sees zeros wherever a pixel lies: padding is no different from inside.
    with torch.no_grad():
        flat = generator.refine(0, None, torch.zeros(1, 3, 25, 25, dtype=torch.float64))
        assert (flat - flat[..., :1, :1]).abs().max() < 1e-12
        generator.scales[1][-1].weight.zero_()
        generator.scales[1][-1].bias.zero_()
        assert torch.equal(generator.refine(1, image, noise), image)


def test_images_are_no_feature_space():
    generator = shaken(small().generator)
    graph = trace(generator, torch.zeros(1, generator.noise_size))
    assert list(graph.spaces) == [f'scales.{scale}.{layer}.conv' for scale in range(2) for layer in range(4)]
    writers = {tensor for space in graph.spaces.values() for tensor in space.writers()}
    assert not writers & {'scales.0.4.weight', 'scales.1.4.weight'}
    assert graph.verify().error < 1e-9


# -- training


def test_discriminator_gets_the_wasserstein_loss_with_penalty():
    model = small(updates=1, penalty_weight=0.5)
    weight = torch.tensor([0.6, 0., 1.6])
    critic = torch.nn.Conv2d(3, 1, 1, bias=False)
    critic.weight.data = weight.reshape(1, 3, 1, 1).clone()
    model.discriminators[0] = critic
    real = scaled(model.sizes[0])
    torch.manual_seed(5)
    fake = model.generator.train()(model.generator.draw_noise(1, 1))
    torch.manual_seed(5)
    logs = model.train_step(image(), optimizer_of(model))
    distance = weight @ (fake.mean((0, 2, 3)) - real.mean((0, 2, 3)))
    torch.testing.assert_close(logs['discriminator'], distance + 0.5 * (weight.norm() - 1) ** 2)


def test_a_new_scale_starts_from_the_one_before():
    model = small(updates=1)
    optimizer = optimizer_of(model)
    for _ in range(model.steps):
        model.train_step(image(), optimizer)
    assert model.trained_scales == 1
    done = copy.deepcopy(model.generator.scales[0].state_dict())
    critic = copy.deepcopy(model.discriminators[0].state_dict())
    start = F.interpolate(model.generator.eval()([model.reconstruction_noise]), SIZE, mode='bilinear')
    model.train_step(image(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.)))
    for key, value in done.items():
        assert torch.equal(model.generator.scales[0].state_dict()[key], value), key
    for scales, before in ((model.generator.scales, done), (model.discriminators, critic)):
        assert all(torch.equal(value, before[key]) for key, value in scales[1].named_parameters())
    expected = 0.1 * (start - scaled(SIZE)).square().mean().sqrt()
    torch.testing.assert_close(model.generator.amplitudes, torch.stack([torch.tensor(1.), expected]))


def test_training_approaches_the_image():
    model = small(steps=12)
    optimizer = optimizer_of(model)
    errors = [model.train_step(image(), optimizer)['reconstruction'] for _ in range(24)]
    assert errors[11] < 0.5 * errors[0] and errors[23] < errors[12]
    assert model.trained_scales == len(model.sizes) == 2
    # The ground is bright, the sky is dark, in the reconstruction as in the image.
    rows = model.eval().reconstruct(2)[0].mean((0, 2))
    assert rows[SIZE[0] // 2 + 2:].mean() > rows[:SIZE[0] // 2 - 2].mean() + 0.5


def test_what_is_saved_is_all_that_training_needs():
    def train(model: SinGAN, optimizer: OptimWrapper, first: int, last: int) -> SinGAN:
        for step in range(first, last):
            torch.manual_seed(step)
            model.train_step(image(), optimizer)
        return model

    model = small(updates=2)
    optimizer = optimizer_of(model)
    train(model, optimizer, 0, 1)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    whole = train(model, optimizer, 1, 4).state_dict()
    resumed = small(updates=2)
    resumed.load_state_dict(saved[0])
    optimizer = optimizer_of(resumed)
    optimizer.load_state_dict(saved[1])
    for key, value in train(resumed, optimizer, 1, 4).state_dict().items():
        assert torch.equal(value, whole[key]), key


def test_mixed_precision_is_near_full_precision():
    errors = []
    for kind in (OptimWrapper, AutocastOptimWrapper):
        torch.manual_seed(0)
        model = small()
        optimizer = kind(torch.optim.Adam(model.parameters(), lr=1e-3))
        errors.append([model.train_step(image(), optimizer)['reconstruction'].item() for _ in range(3)])
    assert errors[0] != errors[1] and errors[0] == pytest.approx(errors[1], rel=0.15)


def test_an_image_of_another_size_is_refused():
    model = SinGAN((24, 28), min_size=12, channels=4)
    with pytest.raises(DataError, match='image_size'):
        model.train_step(image(), optimizer_of(model))


# -- merging


def test_merging_with_a_permuted_copy_gives_the_generator():
    generator = shaken(small().generator)
    noise = list(torch.randn(8, generator.noise_size).split(4))
    graph = trace(generator, noise[0])
    twin = transform(graph, {name: Permute(torch.randperm(space.size)) for name, space in graph.spaces.items()})
    merged = merge([generator, twin], noise, 'permute', inputs=noise[0], heads='merge')
    with torch.no_grad():
        made, average = (model(noise[0]) for model in
                         (merged, merge([generator, twin], None, 'identity', inputs=noise[0], heads='merge')))
        expected = generator(noise[0])
    assert (made - expected).abs().max() < 1e-4 < 1e-2 < (average - expected).abs().max()
