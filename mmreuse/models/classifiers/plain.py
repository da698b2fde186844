"""Weights of nets in one piece, for mmpretrain's classifiers."""
import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mmreuse.errors import ArtefactError
from mmreuse.models.backbones import CifarResNet

_PREFIX = re.compile(r'^(module|model|params|batch_stats)\.')


def classifier_name(name: str, heads: Sequence[str]) -> str:
    """What mmpretrain's classifier calls a plain net's tensor; ``heads`` are names of its last layer."""
    while _PREFIX.match(name):
        name = _PREFIX.sub('', name)
    module, _, tensor = re.sub(r'\.scale$', '.weight', name).rpartition('.')
    return f'head.fc.{tensor}' if module in heads else f'backbone.{module}.{tensor}'


def _of_cifar_resnet(name: str, norm: str) -> str:
    """What :class:`CifarResNet` calls a tensor of other CIFAR ResNets; ``norm`` begins the names of its norms.

    ``downsample.0`` is the shortcut in torchvision's style; ``segments.0.1.norm2`` in the nets of *Vanishing Feature*.
    """
    name = re.sub(r'\bsegments\.(\d)', lambda match: f'layer{int(match[1]) + 1}', name)
    name = re.sub(r'\bdownsample\.', 'shortcut.', name)
    return re.sub(r'\b(?:bn|norm)(\d?)\.', lambda match: f'{norm}{match[1] or 1}.', re.sub(r'\bconv\.', 'conv1.', name))


def convert(state: Mapping[str, Tensor], model: nn.Module, *, statistics: bool = True) -> dict[str, Tensor]:
    """Give the tensors the classifier's names.

    Args:
        state: Of the plain net.
        model: The classifier; gives what plain nets do not keep: class vectors and counts of batches.
        statistics: False for nets without running statistics, which then are the model's and have to be taken anew.

    Returns:
        dict[str, Tensor]: Loads strictly into the classifier.

    Raises:
        ArtefactError: A tensor is missing, left over, or of another shape.
    """
    # The two kinds of VGG have tensors of the same shapes, and differ in this name.
    kind = getattr(model.backbone, 'last_pool', None)
    heads = {'max': ['classifier'], 'avg': ['classifier.0']}.get(kind, ['linear', 'fc'])
    if isinstance(model.backbone, CifarResNet) and not model.backbone.fixup:
        norm = model.backbone.norm_name.rstrip('1')
        state = {_of_cifar_resnet(name, norm): tensor for name, tensor in state.items()}
    wanted = model.state_dict()
    found = {classifier_name(name, heads): tensor for name, tensor in state.items()}
    if not any('.downsample.' in name for name in wanted):  # what CifarResNet calls a shortcut, most others do not
        found = {name.replace('.downsample.', '.shortcut.'): tensor for name, tensor in found.items()}
    endings = ('num_batches_tracked',) if statistics else ('num_batches_tracked', 'running_mean', 'running_var')
    own = {name: tensor for name, tensor in wanted.items() if name.endswith(endings) or name == 'head.class_vectors'}
    found = {**own, **found}
    problems = [f'{name} is missing' for name in wanted.keys() - found.keys()]
    problems += [f'{name} is left over' for name in found.keys() - wanted.keys()]
    problems += [f'{name} has shape {tuple(found[name].shape)}, not {tuple(wanted[name].shape)}'
                 for name in found.keys() & wanted.keys() if found[name].shape != wanted[name].shape]
    if problems:
        raise ArtefactError('the weights are not of the net that the config describes: '
                            f'{"; ".join(sorted(problems)[:6])} ({len(problems)} differences). '
                            'Choose the config of their architecture, width and head.')
    return {name: found[name] for name in wanted}
