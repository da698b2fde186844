"""Groups of classes that belong together."""
from collections.abc import Sequence
from pathlib import Path

from mmreuse.errors import ConfigError
from mmreuse.utils.files.io import read_json, read_text
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

#: The 67 superclasses of ImageNet that SeaM uses, from github.com/noameshed/novelty-detection: WordNet ids by name.
_IMAGENET = Path(__file__).with_name('imagenet_superclasses.json')
#: What belongs elsewhere: in that list a computer mouse is a rodent, for instance.
_IMAGENET_MOVES = {
    'snake': ['n01751748'],  # sea snake, a fish there
    'coral': ['n01910747'],  # jellyfish, a fish there
    'fish': ['n02536864', 'n02606052'],  # coho, a shark there; rock beauty, a coral
    'fungus': ['n12985857'],  # coral fungus, a coral there
    'ungulate': ['n02389026'],  # sorrel, the horse, a plant there
    'bear': ['n02134418'],  # sloth bear, a sloth there
    'primate': ['n02497673'],  # ring-tailed lemur, a mongoose there
    'electronics': ['n03793489'],  # computer mouse
    'decor': ['n03590841'],  # jack-o'-lantern, a fruit there
    'vegetable': ['n07716358', 'n07716906', 'n07717410'],  # zucchini and squashes, fruits there
    'container': ['n02823428', 'n03983396', 'n04591713'],  # bottles, food there
}


def superclasses(of: str) -> dict[str, list[int | str]]:
    """All superclasses of a data set: their classes, ascending, by name.

    Args:
        of: ``'cifar100'``; ``'imagenet'``, as WordNet ids, or ``'imagenet_compat'`` for the published list with its
            mistakes; or a file, JSON ``{"fish": ["n01440764", 1, ...], ...}`` of class names or ids, or lines
            ``fish,n01440764 n01443537 ...``.

    Raises:
        ConfigError: There is no such data set or file.
        ArtefactError: The file cannot be read.
    """
    if of == 'cifar100':
        return {name: [label for label, coarse in enumerate(_CIFAR100_COARSE) if coarse == number]
                for number, name in enumerate(_CIFAR100_NAMES)}
    if of in ('imagenet', 'imagenet_compat'):
        groups = read_json(_IMAGENET)
        return groups if of == 'imagenet_compat' else _corrected(groups)
    path = Path(of)
    if not path.is_file():
        raise ConfigError(f"superclasses of '{of}': neither 'cifar100', 'imagenet' or 'imagenet_compat', nor a file of "
                          'superclasses.')
    if path.suffix == '.json':
        return read_json(path)
    lines = [line.split(',', 1) for line in read_text(path).splitlines() if ',' in line]
    return {name: members.split() for name, members in lines}


def _corrected(groups: dict[str, list[str]]) -> dict[str, list[str]]:
    moved = {wnid for wnids in _IMAGENET_MOVES.values() for wnid in wnids}
    return {name: sorted({*members, *_IMAGENET_MOVES.get(name, ())} - (moved - {*_IMAGENET_MOVES.get(name, ())}))
            for name, members in groups.items()}


def superclass(of: str, name: int | str, known: Sequence[str] = ()) -> list[int | str]:
    """Return the classes of one superclass.

    Args:
        of: As for :func:`superclasses`.
        name: Its name, or its place among all.
        known: Names of the classes of a data set. Of ImageNet's superclasses, those are taken that it has, if its
            classes are WordNet ids (Tiny-ImageNet has 200 of them); if it has all 1000 under other names, ids.

    Raises:
        ConfigError: There is no such superclass, or the data set has none of its classes.
        ArtefactError: As for :func:`superclasses`.
    """
    groups = superclasses(of)
    if isinstance(name, int) and 0 <= name < len(groups):
        name = list(groups)[name]
    if name not in groups:
        raise ConfigError(f"there is no superclass '{name}' of {of}, which has {len(groups)}. "
                          f'{nearest(str(name), groups)}')
    members = groups[name]
    if not known or not of.startswith('imagenet'):
        return members
    wnids = sorted(wnid for group in groups.values() for wnid in group)
    if len(known) == len(wnids) and not set(known) & set(wnids):
        return [wnids.index(wnid) for wnid in members]
    present = [wnid for wnid in members if wnid in set(known)]
    if not present:
        raise ConfigError(f"superclass '{name}' of {of}: the data set has none of its {len(members)} classes.")
    return present
