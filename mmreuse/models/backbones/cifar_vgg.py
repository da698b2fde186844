"""The VGG networks for CIFAR: convolutions in a row, one linear layer behind them."""
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from mmreuse.errors import ConfigError
from mmreuse.models.backbones.cifar_parts import INITS, NORMS
from mmreuse.registry import MODELS
from mmreuse.utils.names import refuse_other

#: Convolutions in each of the five stages.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
#: Channels of the stages, in units of the first stage's.
FACTORS = (1, 2, 4, 8, 8)


@MODELS.register_module()
class CifarVGG(BaseBackbone):
    """VGG-11, 13, 16, 19 for 32x32 images.

    Simonyan and Zisserman, *Very Deep Convolutional Networks*, with the one linear layer that CIFAR needs. Module
    names are those of the published weights: ``features.<k>`` and ``classifier``, or ``classifier.0`` where
    ``last_pool='avg'``.

    Args:
        depth: 11, 13, 16 or 19.
        width: Channels of the first stage; the others have 2, 4, 8 and 8 times as many.
        norm: Behind every convolution: ``'bn'``, ``'ln'`` (over the channels at each pixel) or None.
        bias: Whether convolutions and the linear layer have one.
        last_pool: Behind the last stage: ``'max'`` as behind the others (the networks of *ZipIt!* and *CCA Merge*), or
            ``'avg'`` (those of the work on vanishing features). The mean over what is left of the image follows.
        init: ``'vgg_init'`` (Kaiming normal by fan-out; linear layer N(0, 0.01^2)), ``'lecun_normal'``
            (N(0, 1 / fan-in)), ``'xavier'`` (uniform, gain of ReLU), all with zero biases; ``'kaiming'`` (by fan-in);
            None: PyTorch's own.
        hidden: Width of two more linear layers in front of the classifier, each with ReLU and dropout; the names are
            ``classifier.0``, ``.3`` and ``.6`` then, as in the published weights of chenyaofo/pytorch-cifar-models.
        num_classes: Ends the network in pooling and the classifier, as a plain network from images to
            logits (N, num_classes). None: a backbone.
        in_channels: Channels of the image.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: There is no such depth, norm, last pool or init.
    """

    def __init__(
        self,
        depth: int = 16,
        width: int = 64,
        norm: str | None = None,
        bias: bool = True,
        last_pool: str = 'max',
        init: str | None = None,
        hidden: int | None = None,
        num_classes: int | None = None,
        in_channels: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if depth not in STAGES:
            raise ConfigError(f'CifarVGG: there is no depth {depth}. Take 11, 13, 16 or 19.')
        refuse_other('CifarVGG: norm', norm, (None, *NORMS))
        refuse_other('CifarVGG: init', init, (None, *INITS))
        refuse_other('CifarVGG: last_pool', last_pool, ('max', 'avg'))
        self.num_classes = num_classes
        self.last_pool = last_pool
        layers, channels = [], in_channels
        for convs, factor in zip(STAGES[depth], FACTORS, strict=True):
            for _ in range(convs):
                layers.append(nn.Conv2d(channels, factor * width, 3, padding=1, bias=bias))
                channels = factor * width
                layers += [NORMS[norm](channels)] if norm else []
                layers.append(nn.ReLU())
            layers.append(nn.MaxPool2d(2))
        if last_pool == 'avg':
            layers.pop()
        self.features = nn.Sequential(*layers)
        if num_classes is not None:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            linear = nn.Linear(hidden or channels, num_classes, bias=bias)
            front = [] if hidden is None else [nn.Linear(channels, hidden), nn.ReLU(), nn.Dropout(),
                                               nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout()]
            self.classifier = nn.Sequential(*front, linear) if front or last_pool == 'avg' else linear
        if init is not None:
            INITS[init](self)

    def train(self, mode: bool = True) -> 'CifarVGG':
        """Set the mode; unlike the base class, hand back the network, as every torch module does."""
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor]:
        """Compute logits, or the map of the last stage.

        Args:
            x: (N, in_channels, H, W).

        Returns:
            Tensor | tuple[Tensor]: Logits (N, num_classes); without classes one map (N, 8 * width, H', W').
        """
        x = self.features(x)
        if self.num_classes is None:
            return (x,)
        return self.classifier(self.avgpool(x).flatten(1))
