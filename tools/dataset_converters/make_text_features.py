"""Write the class vectors that TextEmbeddingHead reads: from a text encoder, from a file, or orthonormal.

python tools/dataset_converters/make_text_features.py fashion_mnist --encoder minilm
python tools/dataset_converters/make_text_features.py tiny_imagenet32 --classes data/tiny_imagenet32/words.txt \\
    --encoder open_clip --prompts 'a photo of a {}' 'a blurry photo of a {}'
python tools/dataset_converters/make_text_features.py cifar10 --vectors cifar10_features.csv
"""
import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from mmreuse.datasets.text_features import ENCODERS, PROMPT, class_names, embed_classes, read_vectors, unit_vectors
from mmreuse.errors import MMReuseError
from mmreuse.models.heads.text_embedding import orthonormal_features
from mmreuse.utils import data_root
from mmreuse.utils.io import file_hash, save_tensors


def make_vectors(args: argparse.Namespace, classes: list[str]) -> tuple[Tensor, dict[str, Any]]:
    """Class vectors (C, D), and what they were made by."""
    if args.vectors:
        return (unit_vectors(read_vectors(args.vectors, args.name), classes),
                dict(source=args.vectors.name, source_hash=file_hash(args.vectors)))
    if args.encoder == 'orthonormal':
        return (orthonormal_features(len(classes), args.dims, args.seed),
                dict(encoder='orthonormal', seed=args.seed))
    return (embed_classes(classes, ENCODERS[args.encoder](args.weights), args.prompts),
            dict(encoder=args.encoder, weights=args.weights, prompts=args.prompts))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', help='key of the tensor in the file, and part of the default file name')
    parser.add_argument('--classes', help='known list of class names, or a file with one a line (default: NAME)')
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--encoder', choices=[*ENCODERS, 'orthonormal'])
    source.add_argument('--vectors', type=Path, help='.csv (index and numbers, header), .npy or .safetensors')
    parser.add_argument('--prompts', nargs='+', default=[PROMPT], metavar='TEMPLATE', help=f"default: '{PROMPT}'")
    parser.add_argument('--weights', help='of a CLIP encoder: its name, or a local copy')
    parser.add_argument('--dims', type=int, default=512, help='of orthonormal vectors')
    parser.add_argument('--seed', type=int, default=0, help='of orthonormal vectors')
    parser.add_argument('--out', type=Path, help='default: text_features/{encoder}_{name}.safetensors in the data root')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    stem = '_'.join(filter(None, [args.encoder, args.name.replace('_', '-')]))
    out = args.out or data_root() / 'text_features' / f'{stem}.safetensors'
    try:
        classes = class_names(args.classes or args.name)
        vectors, origin = make_vectors(args, classes)
        # One metadata key: safetensors writes several in random order, and the file's hash would differ every time.
        save_tensors(out, {args.name: vectors}, metadata=dict(provenance=dict(classes=classes, **origin)))
    except MMReuseError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from None
    print(f'{out}  {args.name} {tuple(vectors.shape)}  {file_hash(out)}')


if __name__ == '__main__':
    main()
