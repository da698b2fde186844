"""Write the class vectors that TextEmbeddingHead reads: from a text encoder, from a file, or orthonormal.

    python tools/dataset_converters/make_text_features.py fashion_mnist --encoder minilm
    python tools/dataset_converters/make_text_features.py tiny_imagenet32 --classes data/tiny_imagenet32/words.txt \\
        --encoder open_clip --prompts 'a photo of a {}' 'a blurry photo of a {}'
    python tools/dataset_converters/make_text_features.py cifar10 --vectors cifar10_features.csv
"""
from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreuse.command_line import ToolParser, run_tool, save_weights
from mmreuse.utils.files.paths import data_root

if TYPE_CHECKING:
    from torch import Tensor

ENCODER_NAMES = ('minilm', 'open_clip', 'transformers', 'orthonormal')
PROMPT = 'a photo of a {}'


def make_vectors(args: Namespace, classes: list[str]) -> tuple[Tensor, dict[str, Any]]:
    """Class vectors (C, D), and what they were made by."""
    from mmreuse.datasets.text_features import ENCODERS, embed_classes, read_vectors, unit_vectors
    from mmreuse.models.heads.text_embedding import orthonormal_features
    from mmreuse.utils.files.io import file_hash
    if args.vectors:
        return (unit_vectors(read_vectors(args.vectors, args.name), classes),
                dict(source=args.vectors.name, source_hash=file_hash(args.vectors)))
    if args.encoder == 'orthonormal':
        return (orthonormal_features(len(classes), args.dims, args.seed),
                dict(encoder='orthonormal', seed=args.seed))
    return (embed_classes(classes, ENCODERS[args.encoder](args.weights), args.prompts),
            dict(encoder=args.encoder, weights=args.weights, prompts=args.prompts))


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('name', help='key of the tensor in the file, and part of the default file name')
    parser.add_argument('--classes', help='known list of class names, or a file with one per line (default: NAME)')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--encoder', choices=ENCODER_NAMES)
    source.add_argument('--vectors', type=Path, help='.csv (index and numbers, header), .npy or .safetensors')
    parser.add_argument('--prompts', nargs='+', default=[PROMPT], metavar='TEMPLATE', help=f"default: '{PROMPT}'")
    parser.add_argument('--weights', help='of a CLIP encoder: its name, or a local copy')
    parser.add_argument('--dims', type=int, default=512, help='of orthonormal vectors')
    parser.add_argument('--seed', type=int, default=0, help='of orthonormal vectors')
    parser.add_argument('--out', type=Path, help='default: text_features/{encoder}_{name}.safetensors in the data root')
    return parser.parse_args()


def run(args: Namespace) -> None:
    from mmreuse.datasets.text_features import class_names
    stem = '_'.join(filter(None, [args.encoder, args.name.replace('_', '-')]))
    out = args.out or data_root() / 'text_features' / f'{stem}.safetensors'
    classes = class_names(args.classes or args.name)
    vectors, origin = make_vectors(args, classes)
    print(f'{args.name}: {len(vectors)} vectors of {vectors.shape[1]} numbers')
    save_weights(out, {args.name: vectors}, classes=classes, **origin)


if __name__ == '__main__':
    run_tool(run, parse_args())
