"""A zoo of tiny networks with weights on disk, cut by hand: what the tests of the search share."""
from pathlib import Path

import torch
from safetensors.torch import save_file

from mmreuse.reassembly.zoo.nodes import member_nodes
from mmreuse.reassembly.zoo.structures import Block, Node, Partition
from mmreuse.reassembly.zoo.zoo import ZooEntry, build_member, parse_zoo

RESNET_NODES = [f'layer{stage}.{block}' for stage in (1, 2, 3) for block in (0, 1)]


def resnet(key: str, width: int, **options) -> dict:
    return dict(key=key, library='local', model='CifarResNet', args=dict(depth=14, width=width, num_classes=5),
                nodes=RESNET_NODES, input_size=32, **options)


def vit(key: str, width: int) -> dict:
    args = dict(img_size=32, patch_size=8, embed_dim=width, depth=3, num_heads=2, num_classes=5)
    return dict(key=key, library='local', model='timm.models.vision_transformer.VisionTransformer', args=args,
                nodes=['blocks.0', 'blocks.1', 'blocks.2'], input_size=32)


def make_zoo(folder: Path, *items: dict) -> dict[str, ZooEntry]:
    """Entries whose weights are random but lie in files of their own."""
    entries = []
    for seed, item in enumerate(items):
        torch.manual_seed(seed)
        model = build_member(next(iter(parse_zoo([item]).values())), pretrained=False)
        path = folder / f"{item['key']}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
        entries.append(dict(item, weights=str(path)))
    return parse_zoo(entries)


def make_partition(zoo: dict[str, ZooEntry], num_blocks: int = 3
                   ) -> tuple[Partition, dict[str, tuple[Node, ...]]]:
    """Even cuts; the set of a block is its stage."""
    nodes = {key: member_nodes(entry) for key, entry in zoo.items()}
    blocks = {}
    for key, row in nodes.items():
        ends = [round(len(row) * stage / num_blocks) for stage in range(num_blocks + 1)]
        blocks[key] = tuple(Block(key, ends[i], ends[i + 1] - 1, i, i) for i in range(num_blocks))
    anchors = next(iter(blocks.values()))
    names = {key: tuple(node.name for node in row) for key, row in nodes.items()}
    return Partition(num_blocks, 0.5, 'nodes', 'cka', 0.0, blocks, anchors, names), nodes
