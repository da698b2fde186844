"""mmengine's checkpoint loaders, replaced by ones that run no code from the file.

Everything in OpenMMLab that loads weights (``Runner.load_checkpoint``, ``resume``,
``init_cfg=dict(type='Pretrained')``, inferencers, strategies) asks mmengine's
``CheckpointLoader`` for a loader by the path's scheme. Those it comes with unpickle
whatever a file holds, some only after a restricted attempt failed.
:func:`install_safe_loaders` registers others through ``register_scheme``, mmengine's own
extension point; nothing is patched.
"""
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader, get_external_models, get_mmcls_models, get_torchvision_models
from mmengine.runner.checkpoint import get_deprecated_model_names

from mmreuse.errors import ConfigError
from mmreuse.utils.files.downloads import fetch
from mmreuse.utils.files.io import PathLike, load_checkpoint
from mmreuse.utils.files.results import SCHEME, find_result
from mmreuse.utils.names import nearest

_TRUSTED: ContextVar[bool] = ContextVar('trust_checkpoint', default=False)


@contextmanager
def trusting(trust_checkpoint: bool) -> Iterator[None]:
    """Unpickle in full, and log it, whatever mmengine loads in the block, if ``trust_checkpoint``."""
    token = _TRUSTED.set(trust_checkpoint)
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def install_safe_loaders() -> None:
    """Make mmengine load every checkpoint as :func:`mmreuse.utils.files.io.load_checkpoint` does."""
    for prefixes, loader in (
            ('', load_from_local),
            (('http://', 'https://', 'modelzoo://', 'torchvision://', SCHEME), load_from_address),
            (('open-mmlab://', 'openmmlab://'), load_from_openmmlab),
            ('mmcls://', load_from_mmcls),
            ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), load_from_ceph),
            ('pavi://', load_from_pavi)):
        CheckpointLoader.register_scheme(prefixes, loader, force=True)


def checkpoint_path(checkpoint: PathLike) -> Path:
    """Return a checkpoint's file on this machine.

    Args:
        checkpoint: A path; or an address or ``torchvision://NAME``, such as ``torchvision://resnet50.imagenet1k_v1``,
            which are fetched once; or ``result://CONFIG``, see :func:`~mmreuse.utils.files.results.find_result`.

    Raises:
        ConfigError: torchvision has no such weights, or there is no such config.
        ArtefactError: The file cannot be fetched, or the config's run has left none.
    """
    name = os.fspath(checkpoint)
    if name.startswith(SCHEME):
        return find_result(name)
    if name.startswith(('torchvision://', 'modelzoo://')):
        name = _entry(get_torchvision_models(), name)
    return fetch(name) if name.startswith(('http://', 'https://')) else Path(name)


# mmengine logs a loader under its name from the eleventh letter on, hence `load_from_...`.


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """A file on this machine."""
    trust_checkpoint = _TRUSTED.get()
    checkpoint = load_checkpoint(filename, map_location, trust_checkpoint)
    meta = checkpoint.get('meta')
    if isinstance(meta, dict) and not trust_checkpoint:
        # Runner.resume would run this entry (of mmengine < 0.2 checkpoints) as a Python file.
        meta.pop('config', None)
    return checkpoint


def load_from_address(filename: str, map_location: Any = None) -> dict:
    """Load what :func:`checkpoint_path` finds at an address."""
    return load_from_local(str(checkpoint_path(filename)), map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> dict:
    """``open-mmlab://NAME``."""
    scheme, name = filename.split('://', 1)
    name = get_deprecated_model_names().get(name, name)
    address = _entry(get_external_models(), f'{scheme}://{name}')
    if address.startswith(('http://', 'https://')):
        return load_from_address(address, map_location)
    cache = os.getenv('XDG_CACHE_HOME', '~/.cache')
    home = os.getenv('MMENGINE_HOME', os.path.join(cache, 'mmengine'))
    return load_from_local(os.path.join(home, address), map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> dict:
    """``mmcls://NAME``: the backbone of a published classifier."""
    checkpoint = load_from_address(_entry(get_mmcls_models(), filename), map_location)
    state = checkpoint.get('state_dict', checkpoint)
    prefix = 'backbone.'
    return dict(state_dict={key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)})


def load_from_ceph(filename: str, map_location: Any = None) -> dict:
    """``s3://...`` through mmengine's petrel backend."""
    content = get_file_backend(filename, backend_args=dict(backend='petrel')).get(filename)
    with tempfile.NamedTemporaryFile(suffix=Path(filename).suffix) as file:
        file.write(content)
        file.flush()
        return load_from_local(file.name, map_location)


def load_from_pavi(filename: str, map_location: Any = None) -> dict:
    """``pavi://...`` cannot be fetched without its own client, which unpickles."""
    raise ConfigError(f'{filename}: pavi is not supported. Download the file and give its path.')


def _entry(table: Mapping[str, str], filename: str) -> str:
    name = filename.split('://', 1)[1]
    if name not in table:
        raise ConfigError(f"{filename}: '{name}' is not a published model. {nearest(name, table)}")
    return table[name]
