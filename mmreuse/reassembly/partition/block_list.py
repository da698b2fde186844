"""Lists of blocks as configs write them, in our form and in the published ones."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmreuse.errors import ConfigError
from mmreuse.reassembly.zoo.zoo import ZooEntry, find_entry, parse_zoo
from mmreuse.utils.names import refuse_other, refuse_unknown

#: What the published configs call the libraries.
_BACKENDS = {'pytorch': 'torchvision', 'timm': 'timm', 'mytimm': 'timm', 'mmcv': 'mmpretrain'}
_PUBLISHED_FIELDS = ('model_name', 'block_input', 'block_output', 'backend', 'ckp_path', 'prefix')


@dataclass(frozen=True)
class BlockSpec:
    """Nodes ``first`` to ``last`` of a network of the zoo."""
    entry: ZooEntry
    first: str
    last: str


def parse_block_list(
    items: Sequence[Mapping[str, Any] | Sequence[str]],
    zoo: Mapping[str, ZooEntry],
) -> tuple[BlockSpec, ...]:
    """Read a list of blocks.

    Args:
        items: In order, each one of

            - ``dict(model=..., first=..., last=...)`` with a key of the zoo or a whole zoo entry;
            - ``[key, first, last, backend]`` and ``[key, first, last, backend, checkpoint]``;
            - ``dict(model_name=..., block_input=..., block_output=..., backend=..., ckp_path=..., prefix=...)``,
              the last two optional.

            The last two are the published forms; their backend must be the entry's library, and
            a checkpoint in them replaces the entry's weights.
        zoo: Entries by key.

    Returns:
        tuple[BlockSpec, ...]: In order.

    Raises:
        ConfigError: No blocks, an item of another form, or a key that the zoo lacks.
    """
    if not items:
        raise ConfigError('block_list: it is empty. Give at least one block.')
    return tuple(_parse(f'block_list[{index}]', item, zoo) for index, item in enumerate(items))


def _parse(where: str, item: Mapping[str, Any] | Sequence[str], zoo: Mapping[str, ZooEntry]) -> BlockSpec:
    if not isinstance(item, Mapping):
        if isinstance(item, str) or len(item) not in (4, 5):
            raise ConfigError(f'{where}: {item!r} is not [key, first, last, backend] with or without a checkpoint.')
        return _parse_published(where, dict(zip(_PUBLISHED_FIELDS, item, strict=False)), zoo)
    if 'model_name' in item:
        return _parse_published(where, item, zoo)
    _check_fields(where, item, ('model', 'first', 'last'), ())
    model = item['model']
    if isinstance(model, str):
        return BlockSpec(find_entry(zoo, model), item['first'], item['last'])
    entry, = parse_zoo([model]).values()
    return BlockSpec(entry, item['first'], item['last'])


def _parse_published(where: str, item: Mapping[str, Any], zoo: Mapping[str, ZooEntry]) -> BlockSpec:
    _check_fields(where, item, _PUBLISHED_FIELDS[:4], _PUBLISHED_FIELDS[4:])
    entry = find_entry(zoo, item['model_name'])
    backend = item['backend']
    refuse_other(f'{where}: backend', backend, _BACKENDS)
    if _BACKENDS[backend] != entry.library:
        raise ConfigError(f"{where}: backend '{backend}' is {_BACKENDS[backend]}, but the zoo builds '{entry.key}' "
                          f'with {entry.library}. Node names differ between libraries; use one of them.')
    if item.get('ckp_path'):
        entry = replace(entry, weights=item['ckp_path'], weights_prefix=item.get('prefix') or '', weights_hash=None)
    return BlockSpec(entry, item['block_input'], item['block_output'])


def _check_fields(where: str, item: Mapping[str, Any], needed: Sequence[str], optional: Sequence[str]) -> None:
    refuse_unknown(where, item, (*needed, *optional))
    for name in needed:
        if name not in item:
            raise ConfigError(f"{where}: '{name}' is missing.")
