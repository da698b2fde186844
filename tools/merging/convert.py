"""Convert a folder of published checkpoints of networks for some classes each, and list the pairs that can be merged.

FOLDER/<class ids joined by _>/<name>_v0.pth.tar becomes OUT/<class ids>/<name>.safetensors, for the classifier that
CONFIG describes; give it as checkpoint of a source.

    python tools/merging/convert.py configs/zipit/sources/resnet20-4x_cifar10-5+5.py checkpoints/cifar5 resnet20x4 \\
        --out work_dirs/cifar5
"""
import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from mmreuse.command_line import ToolParser, run_tool
from mmreuse.errors import ArtefactError

_FOLDER = re.compile(r'\d+(_\d+)*')


def published_checkpoints(folder: str | Path, name: str) -> dict[str, Path]:
    """Checkpoints ``<folder>/<class ids joined by _>/<name>_v0.pth.tar``, the newest version, by class ids.

    Raises:
        ArtefactError: There are none.
    """
    found = {}
    for path in sorted(Path(folder).glob(f'*/{name}_v*.pth.tar'), key=_version):
        if _FOLDER.fullmatch(path.parent.name):
            found[path.parent.name] = path
    if not found:
        raise ArtefactError(f'{folder}: there is no <class ids>/{name}_v0.pth.tar. Name the folder and the model that '
                            'the original program wrote.')
    return found


def _version(path: Path) -> int:
    return int(re.fullmatch(r'.*_v(\d+)\.pth\.tar', path.name)[1])


def disjoint_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of folder names without a common class id."""
    ids = {name: set(name.split('_')) for name in sorted(names)}
    return [(first, second) for first in ids for second in ids if first < second and not ids[first] & ids[second]]


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('config', help='config of a source')
    parser.add_argument('folder', help='what the original program wrote')
    parser.add_argument('name', help='of the model there, e.g. resnet20x4')
    parser.add_argument('--out', type=Path, required=True, help='folder')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmengine.registry import init_default_scope

    from mmreuse.engine.launch import load_config
    from mmreuse.models.classifiers.plain import convert, read_weights
    from mmreuse.registry import MODELS
    from mmreuse.utils.files.io import save_tensors
    cfg = load_config(args.config)
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model)
    found = published_checkpoints(args.folder, args.name)
    # All are converted before one is written.
    converted = {ids: convert(read_weights(path), model) for ids, path in found.items()}
    for ids, state in converted.items():
        save_tensors(args.out / ids / f'{args.name}.safetensors', state)
    print(f'{len(converted)} checkpoints in {args.out}; pairs without a common class:')
    for first, second in disjoint_pairs(list(converted)):
        print(f'  {first}  {second}')


if __name__ == '__main__':
    run_tool(run, parse_args())
