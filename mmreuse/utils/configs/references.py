"""Values of a config that follow from others: ``'${stage}'`` in place of a value is that of the key ``stage``."""
import ast
import operator
import re
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmreuse.errors import ConfigError
from mmreuse.utils.names import nearest

_REFERENCE = re.compile(r'\$\{([^{}]+)\}')
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def resolve_references(cfg: Config) -> None:
    """Replace every ``${...}`` of a config by what it stands for.

    An expression names keys of the config, as in ``${tasks.seed}`` or ``${recipes[stage].hooks}``, and may add,
    subtract and multiply. A string that is nothing but a reference becomes the value itself; within a string, its text.

    Raises:
        ConfigError: An expression does not parse, names what does not exist, or refers to itself.
    """
    resolver = _Resolver(cfg)
    for key in list(cfg.keys()):
        cfg[key] = resolver.resolve(cfg[key], str(key))


def referred_names(text: str) -> set[str]:
    """Return the keys of the whole config that are named by references within a string."""
    return {name for expression in _REFERENCE.findall(text)
            for name in re.findall(r'(?<![\w.])[A-Za-z_]\w*', expression)}


class _Resolver:
    """Resolves values of one config; remembers which keys are being resolved."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.open: list[str] = []

    def resolve(self, value: Any, place: str) -> Any:
        """Return a value without references."""
        if isinstance(value, Mapping):
            for key in list(value):
                value[key] = self.resolve(value[key], f'{place}.{key}')
            return value
        if isinstance(value, list | tuple):
            return type(value)(self.resolve(each, f'{place}.{number}') for number, each in enumerate(value))
        if not isinstance(value, str) or '${' not in value:
            return value
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return self.evaluate(whole[1], place)
        return _REFERENCE.sub(lambda found: str(self.evaluate(found[1], place)), value)

    def evaluate(self, expression: str, place: str) -> Any:
        """Return what an expression stands for; a container is copied."""
        where = f'{self.cfg.filename}: {place} refers to ${{{expression}}}'
        if expression in self.open:
            raise ConfigError(f'{where}, which refers to itself. Give it a value.')
        self.open.append(expression)
        try:
            found = self._value(ast.parse(expression.strip(), mode='eval').body)
        except (SyntaxError, TypeError, IndexError) as error:
            raise ConfigError(f'{where}, which cannot be evaluated ({error}). Name a key, as in ${{tasks.seed}}.'
                              ) from error
        except KeyError as error:
            name, known = error.args
            raise ConfigError(f"{where}, and there is no '{name}'. {nearest(str(name), map(str, known))}") from error
        found = self.resolve(_copied(found), place)
        self.open.pop()
        return found

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._value_of(self.cfg._cfg_dict, name)
            case ast.Attribute(value=owner, attr=name):
                return self._value_of(self._value(owner), name)
            case ast.Subscript(value=owner, slice=index):
                return self._value_of(self._value(owner), self._value(index))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self._value(left), self._value(right))
        raise TypeError(f'{ast.unparse(node)} is no key')

    def _value_of(self, owner: Any, key: Any) -> Any:
        if isinstance(owner, Mapping) and key not in owner:
            raise KeyError(key, list(owner))
        return self.resolve(owner[key], str(key))


def _copied(value: Any) -> Any:
    """Return a value of which a change is no change of the original."""
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value
