"""Parts of the CIFAR networks: norms and initialisations by name."""
from collections.abc import Callable
from functools import partial

from mmpretrain.models.utils import LayerNorm2d
from torch import nn

#: Behind convolutions.
NORMS = {'bn': nn.BatchNorm2d, 'ln': LayerNorm2d}


def _initialise(net: nn.Module, conv: Callable, linear: Callable, zero_bias: bool = True) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            (conv if isinstance(module, nn.Conv2d) else linear)(module.weight)
            if zero_bias and module.bias is not None:
                nn.init.zeros_(module.bias)


_he_out = partial(nn.init.kaiming_normal_, mode='fan_out', nonlinearity='relu')
_he_in = nn.init.kaiming_normal_
_lecun = partial(nn.init.kaiming_normal_, nonlinearity='linear')
_xavier = partial(nn.init.xavier_uniform_, gain=nn.init.calculate_gain('relu'))
#: Distributions of the weights of convolutions and linear layers. Biases are zero; `kaiming` leaves them.
INITS = {
    'vgg_init': partial(_initialise, conv=_he_out, linear=partial(nn.init.normal_, std=0.01)),
    'lecun_normal': partial(_initialise, conv=_lecun, linear=_lecun),
    'xavier': partial(_initialise, conv=_xavier, linear=_xavier),
    'kaiming': partial(_initialise, conv=_he_in, linear=_he_in, zero_bias=False),
}
