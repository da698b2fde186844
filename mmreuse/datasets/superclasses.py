"""Groups of classes that belong together."""
from pathlib import Path

from mmreuse.errors import ConfigError
from mmreuse.utils.io import read_json
from mmreuse.utils.names import nearest

#: Of every class of CIFAR-100 its coarse label, as in the data set's files.
_CIFAR100_COARSE = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10,
    12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16,
    12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14,
    13)
_CIFAR100_NAMES = (
    'aquatic mammals', 'fish', 'flowers', 'food containers', 'fruit and vegetables', 'household electrical devices',
    'household furniture', 'insects', 'large carnivores', 'large man-made outdoor things',
    'large natural outdoor scenes', 'large omnivores and herbivores', 'medium-sized mammals',
    'non-insect invertebrates', 'people', 'reptiles', 'small mammals', 'trees', 'vehicles 1', 'vehicles 2')


def superclasses(of: str) -> dict[str, list[int | str]]:
    """All superclasses of a data set: their classes, ascending, by name.

    Args:
        of: ``'cifar100'``; or a file, JSON ``{"fish": ["n01440764", 1, ...], ...}`` of class names or ids, or lines
            ``fish,n01440764 n01443537 ...`` as published for ImageNet.

    Raises:
        ConfigError: There is no such data set or file.
        ArtefactError: A JSON file cannot be read.
    """
    if of == 'cifar100':
        return {name: [label for label, coarse in enumerate(_CIFAR100_COARSE) if coarse == number]
                for number, name in enumerate(_CIFAR100_NAMES)}
    path = Path(of)
    if not path.is_file():
        raise ConfigError(f"superclasses of '{of}': neither 'cifar100' nor a file of superclasses.")
    if path.suffix == '.json':
        return read_json(path)
    lines = [line.split(',', 1) for line in path.read_text(encoding='utf-8').splitlines() if ',' in line]
    return {name: members.split() for name, members in lines}


def superclass(of: str, name: int | str) -> list[int | str]:
    """The classes of one superclass.

    Args:
        of: As for :func:`superclasses`.
        name: Its name, or its place among all.

    Raises:
        ConfigError: There is no such superclass.
        ArtefactError: As for :func:`superclasses`.
    """
    known = superclasses(of)
    if isinstance(name, str) and name in known:
        return known[name]
    if isinstance(name, int) and 0 <= name < len(known):
        return list(known.values())[name]
    raise ConfigError(f"there is no superclass '{name}' of {of}, which has {len(known)}. {nearest(str(name), known)}")
