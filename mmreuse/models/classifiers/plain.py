"""Weights of networks in one piece, for mmpretrain's classifiers, and what published modules call theirs."""
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.models.backbones import CifarResNet
from mmreuse.utils.files.io import load_arrays, load_checkpoint
from mmreuse.utils.files.state_fit import check_fit, weights_of

_PREFIX = re.compile(r'^(module|model|params|batch_stats)\.')
#: From the MLP-Mixer that modules are published for to timm's, in the order in which they are replaced.
_MIXER = [(r'^stem\.', 'stem.proj.'), (r'^layer\.', 'blocks.'), (r'\.(token|channel)_mlp_block\.', r'.mlp_\1s.'),
          (r'\.fc1\.', '.fc2.'), (r'\.fc0\.', '.fc1.')]


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read tensors by name from safetensors, NumPy's ``.npz``, a checkpoint of mmengine or a state dict.

    Raises:
        ArtefactError: The file is missing, damaged, a pickle, or holds no weights, or more than weights.
    """
    path = Path(path)
    if path.suffix in ('.pkl', '.pickle'):
        raise ArtefactError(f'{path}: is a pickle, and reading one runs code from it. Save the weights as .safetensors '
                            'or .npz where they come from.')
    if path.suffix == '.npz' and path.is_file():
        try:
            return {name: torch.from_numpy(array) for name, array in load_arrays(path).items()}
        except TypeError as error:  # text, say
            raise ArtefactError(f'{path}: holds more than numbers ({error}).') from error
    return dict(weights_of(load_checkpoint(path), path))


def classifier_name(name: str, heads: Sequence[str]) -> str:
    """Return the name in mmpretrain's classifier of a plain network's tensor; ``heads`` are names of its last layer."""
    while _PREFIX.match(name):
        name = _PREFIX.sub('', name)
    module, _, tensor = re.sub(r'\.scale$', '.weight', name).rpartition('.')
    return f'head.fc.{tensor}' if module in heads else f'backbone.{module}.{tensor}'


def _of_cifar_resnet(name: str, norm: str) -> str:
    """Return the name in :class:`CifarResNet` of a tensor of other CIFAR ResNets; its norms' names begin with ``norm``.

    ``downsample.0`` is the shortcut in torchvision's style; ``segments.0.1.norm2`` is of *Vanishing Feature*.
    """
    name = re.sub(r'\bsegments\.(\d)', lambda match: f'layer{int(match[1]) + 1}', name)
    name = re.sub(r'\bdownsample\.', 'shortcut.', name)
    return re.sub(r'\b(?:bn|norm)(\d?)\.', lambda match: f'{norm}{match[1] or 1}.', re.sub(r'\bconv\.', 'conv1.', name))


def _renamed(name: str, model: nn.Module) -> str:
    """Return the name in a classifier with a backbone of a plain network's tensor."""
    # The two kinds of VGG have tensors of the same shapes, and differ in this name.
    kind = getattr(model.backbone, 'last_pool', None)
    heads = {'max': ['classifier'], 'avg': ['classifier.0']}.get(kind, ['linear', 'fc'])
    if isinstance(model.backbone, CifarResNet) and not model.backbone.fixup:
        name = _of_cifar_resnet(name, model.backbone.norm_name.rstrip('1'))
    name = classifier_name(name, heads)
    # What CifarResNet calls a shortcut, most others do not.
    return name.replace('.downsample.', '.shortcut.') if isinstance(model.backbone, CifarResNet) else name


def published_name(name: str, base: nn.Module) -> str:
    """Return a base's name of a parameter of the published module's network; the name itself if it fits."""
    own = dict(base.named_parameters())
    mixer = name
    for pattern, replacement in _MIXER:
        mixer = re.sub(pattern, replacement, mixer)
    known = [name, mixer, *([_renamed(name, base)] if hasattr(base, 'backbone') else [])]
    return next((each for each in known if each in own), name)


def convert(state: Mapping[str, Tensor], model: nn.Module, *, statistics: bool = True) -> dict[str, Tensor]:
    """Give the tensors the classifier's names; those that have one keep it.

    Args:
        state: Of the plain network, or of such a classifier.
        model: The classifier; gives what plain networks do not keep: class vectors and counts of batches.
        statistics: False for networks without running statistics, which then are the model's and have to be taken anew.

    Returns:
        dict[str, Tensor]: Loads strictly into the classifier.

    Raises:
        ArtefactError: A tensor is missing, left over, or of another shape.
        ConfigError: The network has no backbone, hence the names of plain networks.
    """
    if not hasattr(model, 'backbone'):
        raise ConfigError(f'{type(model).__name__} has no backbone: it is a plain network itself. Name the file as the '
                          'checkpoint in its config, nothing has to be converted.')
    wanted = model.state_dict()
    found = {name if name in wanted else _renamed(name, model): tensor for name, tensor in state.items()}
    endings = ('num_batches_tracked',) if statistics else ('num_batches_tracked', 'running_mean', 'running_var')
    own = {name: tensor for name, tensor in wanted.items() if name.endswith(endings) or name == 'head.class_vectors'}
    found = {**own, **found}
    check_fit(wanted, found, 'the weights are not of the network that the config describes',
              'Choose the config of their architecture, width and head.')
    return {name: found[name] for name in wanted}
