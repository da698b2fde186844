"""SinGAN: a pyramid of small generators that learns one image (Shaham et al., ICCV 2019, arXiv 1905.01164)."""
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmreuse.errors import ConfigError, DataError
from mmreuse.registry import MODELS

_KERNEL = 3


def scale_sizes(
    image_size: tuple[int, int],
    min_size: int = 25,
    max_size: int = 250,
    factor: float = 0.75,
) -> list[tuple[int, int]]:
    """Return the sizes of the pyramid of an image, coarsest first (supplementary material).

    The finest scale is the image, shrunk if its longer side exceeds ``max_size``; the shorter side of the
    coarsest is ``min_size``. The ratio between scales is the one nearest above ``factor`` that leads from one
    to the other in a whole number of steps.

    Args:
        image_size: Height and width of the training image in pixels.
        min_size: Shorter side at the coarsest scale.
        max_size: Longest side at the finest scale.
        factor: Smallest ratio between two scales.

    Returns:
        list[tuple[int, int]]: Height and width of each scale.

    Raises:
        ConfigError: The sizes leave no pyramid.
    """
    if not 0 < factor < 1:
        raise ConfigError(f'SinGAN: factor = {factor} must lie between 0 and 1')
    shrink = min(max_size / max(image_size), 1)
    height, width = (side * shrink for side in image_size)
    shorter = min(height, width)
    if not 0 < min_size <= shorter:
        raise ConfigError(f'SinGAN: the shorter side of an image of {image_size[0]} x {image_size[1]} pixels is '
                          f'{shorter:.0f} at max_size = {max_size}; min_size = {min_size} must lie between 1 and that')
    steps = math.ceil(math.log(min_size / shorter, factor))
    ratio = (min_size / shorter) ** (1 / steps) if steps else 1
    return [(round(height * ratio ** step), round(width * ratio ** step)) for step in range(steps, -1, -1)]


class ConvBlock(nn.Sequential):
    """A 3x3 convolution without padding, batch norm, LeakyReLU(0.2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, _KERNEL, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.lrelu = nn.LeakyReLU(0.2)


def conv_stack(width: int, out_channels: int, layers: int) -> nn.Sequential:
    """``layers`` convolutions from an image to ``out_channels``: all but the last are blocks of ``width`` channels.

    Weights are drawn from N(0, 0.02), scales of batch norms from N(1, 0.02). A pixel sees ``2 * layers + 1``
    pixels of the image on each axis, 11 as published.
    """
    blocks = [ConvBlock(width if number else 3, width) for number in range(layers - 1)]
    stack = nn.Sequential(*blocks, nn.Conv2d(width, out_channels, _KERNEL))
    for module in stack.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.02)
    return stack


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear (N, C, H, W) -> (N, C, *size), without aliasing."""
    return F.interpolate(images, size, mode='bilinear', align_corners=False, antialias=True)


class SinGANGenerator(nn.Module):
    """Noise maps to image, coarse to fine: an ordinary function, so that networks can be compared on the same noise.

    At each scale n (equations 1 to 3), ``x_n = up(x_(n+1)) + psi_n(a_n z_n + up(x_(n+1)))``, where ``psi_n`` is
    a stack of convolutions that ends in a tanh, and the coarsest scale has no image to start from.

    Args:
        sizes: Height and width of each scale, coarsest first, see :func:`scale_sizes`.
        channels: Features of the coarsest four scales; doubled every four scales.
        max_channels: Where doubling ends.
        layers: Convolutions of each scale.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        channels: int = 32,
        max_channels: int = 128,
        layers: int = 5,
    ) -> None:
        super().__init__()
        self.sizes = [tuple(size) for size in sizes]
        self.widths = [min(channels * 2 ** (scale // 4), max_channels) for scale in range(len(sizes))]
        self.margin = layers * (_KERNEL // 2)  # what the unpadded convolutions of a scale take off each side
        self.scales = nn.ModuleList(conv_stack(width, 3, layers) for width in self.widths)
        self.register_buffer('amplitudes', torch.ones(len(sizes)))

    @property
    def noise_size(self) -> int:
        """Return the numbers of noise that one image takes."""
        return sum(3 * height * width for height, width in self.sizes)

    def split_noise(self, noise: Tensor) -> list[Tensor]:
        """(N, noise_size) as the maps of the scales, (N, 3, *size) each."""
        parts = noise.split([3 * height * width for height, width in self.sizes], dim=1)
        return [part.unflatten(1, (3, *size)) for part, size in zip(parts, self.sizes, strict=True)]

    def draw_noise(self, samples: int, scales: int | None = None) -> list[Tensor]:
        """Noise of PyTorch's global generator for ``samples`` images, for all scales or the coarsest ones."""
        device = self.amplitudes.device
        return [torch.randn(samples, 3, *size, device=device) for size in self.sizes[:scales]]

    def forward(self, noise: Tensor | Sequence[Tensor]) -> Tensor:
        """Make images.

        Args:
            noise: (N, noise_size), or a map (N, 3, h, w) for each scale, coarsest first. Maps for the coarsest
                scales only give the image of the last of these; they may be larger or smaller than ``sizes``.

        Returns:
            Tensor: (N, 3, H, W), about -1 to 1.
        """
        maps = self.split_noise(noise) if isinstance(noise, Tensor) else noise
        image = None
        for scale, noise_map in enumerate(maps):
            image = self.refine(scale, image, noise_map)
        return image

    def refine(self, scale: int, image: Tensor | None, noise: Tensor) -> Tensor:
        """Refine the image of the next coarser scale (None at the coarsest) to ``scale``, the size of ``noise``.

        Padding is done once for all convolutions, so that noise and image meet the same zeros at the border.
        """
        mixed = noise * self.amplitudes[scale]
        if image is not None:
            image = F.interpolate(image, noise.shape[-2:], mode='bilinear', align_corners=False)
            mixed = mixed + image
        detail = torch.tanh(self.scales[scale](F.pad(mixed, (self.margin,) * 4)))
        return detail if image is None else image + detail


@MODELS.register_module()
class SinGAN(BaseModel):
    """Generators and patch discriminators of all scales, trained on one image, one scale after the other.

    The Runner's ordinary loop of ``steps * len(model.sizes)`` iterations trains it: :meth:`train_step` counts them,
    and all it needs to go on after a kill is in the state_dict. One optimizer serves both players, because what has
    no gradient does not move. Training is in one process: there is one image.

    Losses (section 2.2): WGAN-GP with weight 0.1 of the penalty (Gulrajani et al., 2017), plus 10 times the mean
    squared error of the reconstruction, which is the image of one noise drawn once for the coarsest scale and
    none elsewhere. Noise of a finer scale has 0.1 times the root mean squared error of the reconstruction that
    it starts from as its amplitude.

    Args:
        image_size: Height and width of the training image in pixels.
        min_size, max_size, factor: Of :func:`scale_sizes`.
        channels, max_channels, layers: Of :class:`SinGANGenerator`; discriminators have the same.
        steps: Iterations of each scale.
        updates: Updates of the discriminator, then of the generator, in each iteration.
        penalty_weight: Of the gradient penalty.
        reconstruction_weight: Of the reconstruction in the generator's loss.
        noise_weight: Amplitude of the noise in terms of the reconstruction's error.
        data_preprocessor: By default pixels become -1 to 1.

    Raises:
        ConfigError: The coarsest scale is too small for the discriminator, or see :func:`scale_sizes`.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        min_size: int = 25,
        max_size: int = 250,
        factor: float = 0.75,
        channels: int = 32,
        max_channels: int = 128,
        layers: int = 5,
        steps: int = 2000,
        updates: int = 3,
        penalty_weight: float = 0.1,
        reconstruction_weight: float = 10.,
        noise_weight: float = 0.1,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(
            type='mmengine.ImgDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3))
        sizes = scale_sizes(image_size, min_size, max_size, factor)
        if min(sizes[0]) < layers * (_KERNEL - 1) + 1:
            raise ConfigError(f'SinGAN: the coarsest scale has {sizes[0][0]} x {sizes[0][1]} pixels, fewer than the '
                              f'{layers * (_KERNEL - 1) + 1} that {layers} convolutions see: raise min_size')
        self.image_size = tuple(image_size)
        self.steps, self.updates = steps, updates
        self.penalty_weight, self.reconstruction_weight = penalty_weight, reconstruction_weight
        self.noise_weight = noise_weight
        self.generator = SinGANGenerator(sizes, channels, max_channels, layers)
        self.discriminators = nn.ModuleList(conv_stack(width, 1, layers) for width in self.generator.widths)
        self.register_buffer('reconstruction_noise', torch.randn(1, 3, *sizes[0]))
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Return the height and width of each scale, coarsest first."""
        return self.generator.sizes

    @property
    def trained_scales(self) -> int:
        """Return the number of scales that have had all their iterations."""
        return int(self.iteration) // self.steps

    def forward(self, inputs: Tensor | Sequence[Tensor], data_samples: Any = None, mode: str = 'tensor') -> Tensor:
        """Make images of noise, see :meth:`SinGANGenerator.forward`.

        Raises:
            ConfigError: Another mode than 'tensor'; what trains is :meth:`train_step`.
        """
        if mode != 'tensor':
            raise ConfigError(f"SinGAN: there is no mode '{mode}'. It is trained by its train_step, in one process, "
                              "and gives images in mode 'tensor'.")
        return self.generator(inputs)

    def reconstruct(self, scales: int) -> Tensor:
        """Return the reconstruction of the training image at the ``scales``-th scale: (1, 3, h, w)."""
        silence = [self.reconstruction_noise.new_zeros(1, 3, *size) for size in self.sizes[1:scales]]
        return self.generator([self.reconstruction_noise, *silence])

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One iteration of the scale at hand: updates of its discriminator, then of its generator.

        Args:
            data: ``inputs``, the training image (3, H, W) in a batch of one.
            optim_wrapper: Of all parameters.

        Returns:
            dict[str, Tensor]: ``discriminator``, ``adversarial``, ``reconstruction`` (a mean squared error), ``scale``.

        Raises:
            DataError: The image is not of the size that the model is for.
        """
        image = self.data_preprocessor(data, True)['inputs']
        if tuple(image.shape) != (1, 3, *self.image_size):
            raise DataError(f'SinGAN for one image of {self.image_size} pixels got {tuple(image.shape)}: set '
                            'model.image_size to height and width of the image, and batch_size to 1.')
        scale = min(self.trained_scales, len(self.sizes) - 1)
        real = resize(image, self.sizes[scale])
        self.generator.eval()  # coarser scales are done
        if int(self.iteration) == scale * self.steps:
            self._start_scale(scale, real)
        self.generator.scales[scale].train()
        with optim_wrapper.optim_context(self):
            for _ in range(self.updates):
                loss = self._discriminator_loss(scale, real)
                optim_wrapper.update_params(loss)
            self.discriminators[scale].requires_grad_(False)
            for _ in range(self.updates):
                adversarial, reconstruction = self._generator_losses(scale, real)
                optim_wrapper.update_params(adversarial + self.reconstruction_weight * reconstruction)
            self.discriminators[scale].requires_grad_(True)
        self.iteration += 1
        return dict(discriminator=loss.detach(), adversarial=adversarial.detach(),
                    reconstruction=reconstruction.detach(), scale=torch.tensor(float(scale)))

    @torch.no_grad()
    def _start_scale(self, scale: int, real: Tensor) -> None:
        """Begin with the weights of the scale before where they fit, and set the amplitude of the noise."""
        if scale == 0:
            return
        if self.generator.widths[scale] == self.generator.widths[scale - 1]:
            for scales in (self.generator.scales, self.discriminators):
                scales[scale].load_state_dict(scales[scale - 1].state_dict())
        start = F.interpolate(self.reconstruct(scale), real.shape[-2:], mode='bilinear', align_corners=False)
        self.generator.amplitudes[scale] = self.noise_weight * F.mse_loss(start, real).sqrt()

    def _make(self, scale: int) -> Tensor:
        """Return a random image at ``scale``; gradients reach the generator of this scale only."""
        *coarser, noise = self.generator.draw_noise(1, scale + 1)
        with torch.no_grad():
            start = self.generator(coarser)
        return self.generator.refine(scale, start, noise)

    def _discriminator_loss(self, scale: int, real: Tensor) -> Tensor:
        """Return Wasserstein distance, negated, with the gradient penalty on a mixture of both images."""
        discriminator = self.discriminators[scale]
        with torch.no_grad():
            fake = self._make(scale)
        share = torch.rand((), device=real.device)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        slope, = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)
        # Every pixel of the output is a critic of its own patch, so slopes are asked to be 1 pixel by pixel.
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return discriminator(fake).mean() - discriminator(real).mean() + self.penalty_weight * penalty

    def _generator_losses(self, scale: int, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the generator's adversarial loss, and the error of the reconstruction."""
        adversarial = -self.discriminators[scale](self._make(scale)).mean()
        if scale:
            with torch.no_grad():
                start, noise = self.reconstruct(scale), torch.zeros_like(real)
        else:
            start, noise = None, self.reconstruction_noise
        return adversarial, F.mse_loss(self.generator.refine(scale, start, noise), real)
