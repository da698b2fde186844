"""Networks that were made of another one and go with it: beside it each takes what differs."""
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import copy_model
from mmreuse.networks.content.delta import pack, unpack_from
from mmreuse.networks.content.tensors import content_of, fill, rebuilt, record_in
from mmreuse.networks.record import MODULES, plain_network, set_record, zeros_of
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.files.io import PathLike, state_hash

_ENDING = '.safetensors'


@dataclass(frozen=True, eq=False)
class Packed:
    """A module as it goes with its base.

    Attributes:
        tensors: What differs from the base, see :func:`~mmreuse.networks.content.delta.pack`.
        about: Its metadata: what a network file says of its own network, ``delta``, ``parameters``, and ``macs`` of one
            image, None where it is not known what the module takes.
    """
    tensors: dict[str, Tensor]
    about: dict[str, Any]

    @property
    def bytes(self) -> int:
        """Count what its tensors take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def split_name(path: PathLike) -> tuple[Path, str | None]:
    """Return the file and the name of the module that ``'FILE.safetensors#NAME'`` means; None for the network itself.
    """
    file, mark, name = str(path).rpartition(f'{_ENDING}#')
    return (Path(file + _ENDING), name) if mark else (Path(path), None)


def with_modules(network: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of a network that has modules: networks made of it, which its file will hold as well.

    They stay with the copy until a job changes it.

    Args:
        network: The base.
        modules: By name.

    Raises:
        ConfigError: A name cannot be one.
        ArtefactError: A module cannot be rebuilt.
    """
    return keep_modules(copy_model(network), pack_modules(network, modules, type(network).__name__))


def modules_of(network: nn.Module, *, trust_code: bool = False) -> dict[str, nn.Module]:
    """Return the modules that a network has, each a network of its own; none for most.

    Args:
        network: Loaded from a file of modules, or of :func:`with_modules`.
        trust_code: As for :func:`mmreuse.networks.load`.

    Raises:
        ArtefactError: The network's weights are not those that the modules were made of.
    """
    state, where = network.state_dict(), type(network).__name__
    return {name: open_module(each, state, f'{where}#{name}', trust_code)
            for name, each in kept_modules(network).items()}


def kept_modules(network: nn.Module) -> dict[str, Packed]:
    """Return the modules of a network as they are kept on it."""
    return vars(network).get(MODULES, {})


def keep_modules(network: nn.Module, modules: Mapping[str, Packed]) -> nn.Module:
    """Keep modules on a network; return the network."""
    if modules:
        vars(network)[MODULES] = dict(modules)
    return network


def pack_modules(network: nn.Module, modules: Mapping[str, nn.Module], where: object,
                 base: str | Mapping[str, Any] | None = None) -> dict[str, Packed]:
    """Take down what differs between modules and their base.

    Args:
        network: The base.
        modules: By name.
        where: The file, for errors.
        base: Of :func:`~mmreuse.networks.content.tensors.content_of`.

    Raises:
        ConfigError: A name cannot be one.
        ArtefactError: A module cannot be rebuilt.
    """
    packed, state = {}, network.state_dict()
    for name, module in modules.items():
        if not isinstance(name, str) or not name or '/' in name or '\\' in name:
            raise ConfigError(f'{where}: {name!r} cannot be the name of a module. Give a word, such as that of its '
                              'problem.')
        module = plain_network(module)
        tensors, about = content_of(module, f'{where}#{name}', base=base)
        stored, delta = pack(tensors, state)
        image = zeros_of(about['inputs'], module)
        packed[name] = Packed(stored, dict(about, delta=delta, parameters=count_params(module),
                                           macs=count_macs(module, image) if image else None))
    return packed


def check_base(modules: Mapping[str, Packed], network: nn.Module, where: object) -> None:
    """Raise :class:`ArtefactError` unless modules are of a network as it is now."""
    if modules and (found := state_hash(network)) != next(iter(modules.values())).about['delta']['base']:
        raise ArtefactError(f'{where}: the network has modules ({", ".join(modules)}) that were made of other weights '
                            f'than it has now ({found}). Make them again and give them as `modules`, or save it alone '
                            'with modules={}.')


def find_module(modules: Mapping[str, Packed], name: str, file: PathLike) -> Packed:
    """Return a module by name.

    Raises:
        ArtefactError: There is none of that name; those that there are are named.
    """
    if name not in modules:
        known = f"It has {', '.join(modules)}" if modules else 'It has none: it is the file of one network'
        raise ArtefactError(f"{file}: has no module '{name}'. {known}; without #{name} it means the network itself.")
    return modules[name]


def open_module(module: Packed, base: Mapping[str, Tensor], where: object, trust_code: bool) -> nn.Module:
    """Make a network of a module and the tensors of its base.

    Raises:
        ArtefactError: They do not fit each other, or cannot be rebuilt.
    """
    tensors = unpack_from(base, module.tensors, module.about['delta'], where)
    network = rebuilt(module.about, tensors, where, trust_code)
    fill(network, tensors, where)
    return set_record(network.eval(), record_in(module.about))
