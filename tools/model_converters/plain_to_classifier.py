"""Convert a plain network's weights for the classifier that a config describes.

python tools/model_converters/plain_to_classifier.py configs/zipit/sources/resnet20-4x_cifar10-5+5.py v0.pth.tar

The file holds the state dict of a net in one piece: a CIFAR ResNet (``conv1``, ``layer1.0.conv1``, ..., ``linear``), a
CIFAR VGG (``features.0``, ..., ``classifier`` or, where it ends in average pooling, ``classifier.0``), torchvision's
ResNet (..., ``fc``), or such a net as Git Re-Basin's merges are passed on (``params.bn1.scale`` for ``bn1.weight``,
``batch_stats.bn1.running_mean``).
"""
import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmreuse.engine.launch import load_config
from mmreuse.errors import ArtefactError, MMReuseError
from mmreuse.registry import MODELS
from mmreuse.utils.io import file_hash, load_checkpoint, save_tensors

_PREFIX = re.compile(r'^(module|model|params|batch_stats)\.')


def classifier_name(name: str, heads: Sequence[str]) -> str:
    """What mmpretrain's classifier calls a plain net's tensor; ``heads`` are names of its last layer."""
    while _PREFIX.match(name):
        name = _PREFIX.sub('', name)
    module, _, tensor = re.sub(r'\.scale$', '.weight', name).rpartition('.')
    return f'head.fc.{tensor}' if module in heads else f'backbone.{module}.{tensor}'


def convert(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the tensors the classifier's names.

    Args:
        state: Of the plain net.
        model: The classifier; gives what plain nets do not keep: class vectors and counts of batches.

    Returns:
        dict[str, Tensor]: Loads strictly into the classifier.

    Raises:
        ArtefactError: A tensor is missing, left over, or of another shape.
    """
    # The two kinds of VGG have tensors of the same shapes, and differ in this name.
    kind = getattr(model.backbone, 'last_pool', None)
    heads = {'max': ['classifier'], 'avg': ['classifier.0']}.get(kind, ['linear', 'fc'])
    found = {classifier_name(name, heads): tensor for name, tensor in state.items()}
    wanted = model.state_dict()
    own = {name: tensor for name, tensor in wanted.items()
           if name.endswith('num_batches_tracked') or name == 'head.class_vectors'}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', type=Path, help='config of the classifier')
    parser.add_argument('checkpoint', type=Path, help='state dict of the plain net, .pth or .safetensors')
    parser.add_argument('--out', type=Path, help='default: beside the checkpoint, <name>_classifier.safetensors')
    args = parser.parse_args()
    out = args.out or args.checkpoint.with_name(f'{args.checkpoint.name.split(".")[0]}_classifier.safetensors')
    try:
        cfg = load_config(args.config)
        init_default_scope(cfg.default_scope)
        state = load_checkpoint(args.checkpoint)
        converted = convert(state.get('state_dict', state), MODELS.build(cfg.model))
        # One metadata key: safetensors writes several in random order, and the file's hash would differ every time.
        save_tensors(out, converted, metadata=dict(provenance=dict(
            config=args.config.name, source=args.checkpoint.name, source_hash=file_hash(args.checkpoint))))
    except MMReuseError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from None
    print(f'{out}  {file_hash(out)}')


if __name__ == '__main__':
    main()
