"""References: how configs and command lines name a network that has its weights."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import init_default_scope
from torch import nn

from mmreuse.errors import ConfigError
from mmreuse.networks.bases import create, record_config
from mmreuse.networks.content.modules import split_name
from mmreuse.networks.network_file import is_network_file, load
from mmreuse.networks.record import plain_network
from mmreuse.registry import MODELS
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import PathLike, load_checkpoint
from mmreuse.utils.files.results import result_of
from mmreuse.utils.files.safe_loading import checkpoint_path
from mmreuse.utils.files.state_fit import load_strictly, weights_of
from mmreuse.utils.names import refuse_unknown

_CONFIGS = ('.py', '.yml', '.yaml', '.json')
_KEYS = {'config': ('config', 'checkpoint', 'options'), 'base': ('base', 'weights', 'options'),
         'network': ('network', 'of')}

Reference = str | Path | Mapping[str, Any] | nn.Module


def open_network(reference: Reference, *, trust_code: bool = False) -> nn.Module:
    """Return a network with weights.

    ::

        open_network('a.safetensors')                                   # a network file
        open_network('pets.safetensors#cat')                            # one of the modules in it
        open_network('configs/dery/net.py')                             # the result of that config's run
        open_network(dict(config='configs/dery/net.py', checkpoint='net.pth'))
        open_network(dict(base='timm:resnet18', weights='resnet18.pth', options=dict(num_classes=10)))

    Args:
        reference: A network file, with ``#NAME`` behind it for one of its modules; a config, whose own work_dir then
            holds the result of its run; ``dict(config=PATH, checkpoint=PATH, options={})`` with ``options`` set in the
            config by dotted keys; ``dict(base=NAME or model config, weights=PATH, options={})`` with the arguments of
            :func:`~mmreuse.networks.create`; ``dict(network=PATH, of=REFERENCE)`` for a file of differences. A network
            itself is returned as it is.
        trust_code: Import and call the code of networks that are of no library.

    Returns:
        nn.Module: On the CPU, in evaluation mode, with its record.

    Raises:
        ConfigError: The reference is none of these, or gives no weights.
        ArtefactError: A file is missing, damaged, or does not fit.
    """
    if isinstance(reference, nn.Module):
        return reference
    if isinstance(reference, str | Path):
        if split_name(reference)[0].suffix == '.safetensors':
            return load(reference, trust_code=trust_code)
        if Path(reference).suffix not in _CONFIGS:
            raise ConfigError(f"'{reference}' names no network with weights. Give a network file (.safetensors), a "
                              'config, dict(config=PATH, checkpoint=PATH) or dict(base=NAME, weights=PATH).')
        reference = dict(config=reference)
    kind = _kind_of(reference)
    options = dict(reference.get('options') or {})
    if kind == 'network':
        return load(reference['network'], base=None if reference.get('of') is None else open_network(
            reference['of'], trust_code=trust_code), trust_code=trust_code)
    if kind == 'base':
        if reference.get('weights') is None:
            raise ConfigError(f"the base '{reference['base']}' has no weights: give weights=PATH, the file of its "
                              'trained ones.')
        network = create(reference['base'], trust_code=trust_code, **options)
        return load_weights(network, reference['weights'])
    path = reference['config']
    cfg = read_config(path, options)
    checkpoint = reference.get('checkpoint') or result_of(path, options)
    if is_network_file(checkpoint):
        return load(checkpoint, trust_code=trust_code)
    if not isinstance(cfg.get('model'), Mapping):
        raise ConfigError(f'{path}: has no model, so that it is no reference to a network.')
    model = cfg.model.to_dict()
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    init_default_scope('mmreuse')
    network = record_config(MODELS.build({**model, 'init_cfg': None}), model)
    return plain_network(load_weights(network, checkpoint))


def load_weights(network: nn.Module, path: PathLike) -> nn.Module:
    """Load a file of weights into a network, strictly, and put it into evaluation mode.

    Args:
        network: Of any origin.
        path: A file, or an address as in :func:`~mmreuse.utils.files.safe_loading.checkpoint_path`.

    Raises:
        ArtefactError: The file is missing, damaged, or does not fit.
    """
    load_strictly(network, weights_of(load_checkpoint(checkpoint_path(path)), path), path)
    return network.eval()


def _kind_of(reference: Any) -> str:
    """Return which keys a reference has to have.

    Raises:
        ConfigError: It is no reference.
    """
    kinds = [kind for kind in _KEYS if isinstance(reference, Mapping) and reference.get(kind) is not None]
    if len(kinds) != 1:
        raise ConfigError(f'{reference!r} names no network: give a network file (.safetensors), a config, '
                          'dict(config=PATH, checkpoint=PATH) or dict(base=NAME, weights=PATH).')
    refuse_unknown(f'the network {dict(reference)}', reference, _KEYS[kinds[0]])
    return kinds[0]
