"""Checks of the numbers in a config, by the keys that they stand under."""
import math
from collections.abc import Mapping
from typing import Any

from mmreuse.errors import ConfigError
from mmreuse.utils.names import shown

#: Numbers that must be above zero wherever they are given, alone or in lists.
_POSITIVE = ('batch_size', 'batch_sizes', 'num_batches', 'num_samples', 'minibatch', 'samples', 'num_candidates',
             'input_size', 'crop_size', 'num_classes', 'val_interval', 'memory_gb')
_NOT_NEGATIVE = ('num_workers', 'lr', 'weight_decay', 'momentum', 'max_epochs', 'max_iters')
_WHOLE = ('batch_size', 'batch_sizes', 'num_batches', 'num_samples', 'minibatch', 'samples', 'num_candidates',
          'num_workers', 'num_classes', 'max_epochs', 'max_iters', 'val_interval', 'seed')
#: Never a section of their own.
_ALONE = ('batch_size', 'num_batches', 'num_samples', 'num_workers', 'num_classes', 'max_epochs', 'max_iters',
          'val_interval', 'lr', 'weight_decay')
_MAX_SEED = 2 ** 32 - 1


def check_numbers(place: str, key: str, value: Any) -> None:
    """Check numbers by the key that they are given under.

    Raises:
        ConfigError: A number is NaN, no number, no whole number, zero or below it, or too large for a seed.
    """
    if isinstance(value, Mapping):
        if key in _ALONE:
            raise ConfigError(f'{place} = {shown(value)}: give a number.')
        for name, each in value.items():
            if name != 'args':  # of a library's constructor
                check_numbers(f'{place}.{name}', str(name), each)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            check_numbers(f'{place}[{number}]', key, each)
    elif isinstance(value, float) and math.isnan(value):
        raise ConfigError(f'{place} is not a number (NaN). Give a finite one.')
    elif isinstance(value, str) and key in (*_POSITIVE, *_NOT_NEGATIVE):
        raise ConfigError(f'{place} = {shown(value)} is a text. Give a number.')
    elif isinstance(value, bool) and key in (*_POSITIVE, *_NOT_NEGATIVE):
        raise ConfigError(f'{place} = {value}: give a number.')
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if key in _WHOLE and (math.isinf(value) or value != int(value)):
            raise ConfigError(f'{place} = {value} is no whole number. Give one.')
        if key in _POSITIVE and value <= 0:
            raise ConfigError(f'{place} = {value}: give a number above 0.')
        if key in _NOT_NEGATIVE and value < 0:
            raise ConfigError(f'{place} = {value}: give 0 or more.')
        if key == 'seed' and not 0 <= value <= _MAX_SEED:
            raise ConfigError(f'{place} = {value}: seeds are whole numbers from 0 to {_MAX_SEED}.')
