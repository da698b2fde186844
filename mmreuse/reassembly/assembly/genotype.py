"""Structural rules of assembled networks, and a genotype as JSON and as a model config."""
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.graph import Size
from mmreuse.reassembly.assembly.adapters import choose_adapter
from mmreuse.reassembly.assembly.stem import STEMS
from mmreuse.reassembly.zoo.structures import Adapter, Block, Genotype, Node
from mmreuse.reassembly.zoo.zoo import ZooEntry, entry_to_dict, find_entry
from mmreuse.utils.names import refuse_other

Nodes = Mapping[str, tuple[Node, ...]]


@dataclass(frozen=True)
class Rules:
    """Rules of which block may follow which (Yang et al., 2022, section 3.2)."""
    one_per_set: bool = True  # no two blocks of one equivalence set
    cnn_first: bool = True  # transformers only after CNNs; else the vit2cnn adapter is used as well
    base_adapter: bool = False  # a transformer may come first, stitched to the stem
    base_channels: int = 64  # width of the stem before a base adapter; else it is that of the first block
    stem: Literal['imagenet', 'cifar'] = 'imagenet'  # divides the image's sides by 4, or keeps them
    strides: tuple[int, ...] = (1, 2)  # of convolutional adapters
    linear_adapters: bool = False  # in front of transformers: one linear map, see :class:`StitchingLayer`
    match_resolution: bool = True  # only the stride that best gives a block the resolution it was trained at

    def __post_init__(self) -> None:
        # Configs hold lists.
        strides = tuple(self.strides) if isinstance(self.strides, list | tuple) else (self.strides,)
        object.__setattr__(self, 'strides', strides)
        for name in ('one_per_set', 'cnn_first', 'base_adapter', 'linear_adapters', 'match_resolution'):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f'rules: {name} = {getattr(self, name)!r} must be True or False')
        if not self.strides or not all(isinstance(s, int) and s > 0 for s in self.strides) or 1 not in self.strides:
            raise ConfigError(f'rules: strides = {self.strides} must be positive integers with 1 among them, '
                              'the only stride between tokens')
        refuse_other('rules: stem', self.stem, STEMS)
        if not isinstance(self.base_channels, int) or self.base_channels < 1:
            raise ConfigError(f'rules: base_channels = {self.base_channels!r} must be a positive whole number')


def is_map(layout: str) -> bool:
    """Return whether features are CNN maps; tokens and channels-last maps are a transformer's."""
    return layout == 'nchw'


def native_size(node: Node, trained: Size, used: Size) -> tuple[float, float]:
    """Return the map that ``node`` would receive in its own network at the assembled network's input size.

    Args:
        node: First node of a block, measured at input size ``trained``.
        trained: Height and width of its zoo entry's input.
        used: Height and width of the assembled network's input.

    Returns:
        tuple: Height and width, not rounded.
    """
    if node.in_layout == 'nlc':
        height, width = _token_grid(node.in_shape[0], trained)
    else:
        height, width = node.in_shape[1:] if is_map(node.in_layout) else node.in_shape[:2]
    return height * used[0] / trained[0], width * used[1] / trained[1]


def _token_grid(tokens: int, trained: Size) -> tuple[float, float]:
    """Rows and columns of a sequence, of the image's shape, less at most two extra tokens (class, distillation)."""
    for extra in range(3):
        rows = math.sqrt((tokens - extra) * trained[0] / trained[1])
        if tokens > extra and rows > 0.5 and math.isclose(rows, round(rows)):
            return rows, (tokens - extra) / rows
    rows = math.sqrt(tokens * trained[0] / trained[1])
    return rows, tokens / rows


def strides_for(size: Size, native: tuple[float, float], tokens_only: bool, rules: Rules) -> tuple[int, ...]:
    """Strides an adapter may take from a map of ``size`` to a block at home at ``native``.

    Args:
        size: What leaves the block before.
        native: What the next block received where it was trained.
        tokens_only: Tokens on both sides, whose linear adapter has no stride.
        rules: Which strides, and whether only the best.
    """
    if tokens_only:
        return (1, )
    possible = sorted(stride for stride in rules.strides if stride <= min(size))
    if not rules.match_resolution:
        return tuple(possible)

    def mismatch(stride: int) -> float:
        area = (size[0] // stride) * (size[1] // stride)
        return round(abs(math.log(area / (native[0] * native[1]))), 9)

    return (min(possible, key=mismatch), )


def stitch(before: Node | None, after: Node, stride: int, rules: Rules) -> Adapter:
    """Return the adapter between two blocks, or from the stem (``before`` None) to a transformer."""
    linear = rules.linear_adapters and not is_map(after.in_layout)
    if before is None:
        return Adapter('cnn2vit', rules.base_channels, after.in_channels, stride=stride, linear=linear)
    return choose_adapter(before, after, stride, linear)


def may_follow(before: Node, after: Node, rules: Rules) -> bool:
    """Return whether a block starting with ``after`` may stand behind one ending in ``before``."""
    return not rules.cnn_first or is_map(before.out_layout) or not is_map(after.in_layout)


def may_start(node: Node, rules: Rules) -> bool:
    """Return whether a block starting with ``node`` may stand behind the convolutional stem."""
    return is_map(node.in_layout) or rules.base_adapter


def stem_width(node: Node, rules: Rules) -> int:
    """Return the channels of the stem in front of a block that starts with ``node``."""
    return node.in_channels if is_map(node.in_layout) else rules.base_channels


def genotype_to_dict(genotype: Genotype) -> dict[str, Any]:
    """As plain values, for JSON."""
    return asdict(genotype)


def genotype_from_dict(value: Mapping[str, Any]) -> Genotype:
    """Read what :func:`genotype_to_dict` wrote.

    Raises:
        ArtefactError: Not a genotype.
    """
    try:
        base = value.get('base_adapter')
        return Genotype(
            blocks=tuple(Block(**block) for block in value['blocks']),
            adapters=tuple(Adapter(**adapter) for adapter in value['adapters']),
            base_channels=value['base_channels'],
            base_adapter=None if base is None else Adapter(**base),
            stem=value.get('stem', 'imagenet'))
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f'not a genotype: {error!r} in {str(value)[:200]}') from error


def genotype_hash(genotype: Genotype) -> str:
    """Name of a genotype by content: the same on every machine and in every run."""
    return hashlib.sha256(json.dumps(genotype_to_dict(genotype), sort_keys=True).encode()).hexdigest()[:16]


def describe(genotype: Genotype, nodes: Nodes) -> str:
    """One line, e.g. ``resnet50 layer1.0-layer1.2 -(256->512, /2)-> ...``."""
    parts = []
    for index, block in enumerate(genotype.blocks):
        if index:
            adapter = genotype.adapters[index - 1]
            stride = f', /{adapter.stride}' if adapter.stride > 1 else ''
            parts.append(f'-({adapter.in_channels}->{adapter.out_channels}{stride})->')
        first, last = nodes[block.model][block.first].name, nodes[block.model][block.last].name
        parts.append(f'{block.model} {first}' + (f'..{last}' if first != last else ''))
    return ' '.join(parts)


def model_config(genotype: Genotype, zoo: Mapping[str, ZooEntry], nodes: Nodes, num_classes: int,
                 in_channels: int = 3, **backbone: Any) -> dict[str, Any]:
    """Return the classifier as a config: builds exactly the genotype, with every block's own weights.

    Args:
        genotype: What to build.
        zoo: Entries of the networks it takes blocks from; each is written out in full.
        nodes: Nodes of these networks.
        num_classes: Outputs of the head.
        in_channels: Channels of the images.
        **backbone: Further options of the backbone, e.g. ``block_fixed=True``.

    Returns:
        dict: ``dict(type='mmpretrain.ImageClassifier', ...)`` of plain Python values.

    Raises:
        ConfigError: A block comes from a network that is not in the zoo.
    """
    blocks = [dict(model=entry_to_dict(find_entry(zoo, block.model)), first=nodes[block.model][block.first].name,
                   last=nodes[block.model][block.last].name) for block in genotype.blocks]
    last = nodes[genotype.blocks[-1].model][genotype.blocks[-1].last]
    if genotype.base_adapter is not None:
        backbone['base_adapter'] = asdict(genotype.base_adapter)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmreuse.DeRy', block_list=blocks, adapter_list=[asdict(adapter) for adapter in genotype.adapters],
            base_channels=genotype.base_channels, in_channels=in_channels, stem=genotype.stem,
            out_indices=[len(blocks) - 1], **backbone),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=last.out_channels,
            loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1),
            topk=(1, 5) if num_classes >= 5 else (1, )))
