"""Merge generators that learned one image each, and compare what they, and their merges, make of the same noise."""
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor, nn

from mmreuse.engine.configs.options import load_config
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.evaluation.patches import patches, sliced_wasserstein
from mmreuse.merging.merge import merge
from mmreuse.models import SinGAN
from mmreuse.models.classifiers.sources import build_source
from mmreuse.models.generators.singan import resize
from mmreuse.registry import DATASETS
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.files.io import write_json
from mmreuse.visualization.image_grid import draw_image_rows

_BATCH = 8


def compare_generators(sources: Sequence[Sequence[str]], matchers: Sequence[str], folder: Path, *,
                       stop: str | None = None, samples: int = 64, drawn: int = 4,
                       seed: int = 0) -> dict[str, dict[str, float]]:
    """Write ``samples.png``, a row of images for every generator, and ``samples.json``, distances of their patches.

    Args:
        sources: Config and checkpoint of each generator.
        matchers: How to merge; ``'identity'`` is the plain average.
        folder: Where to write.
        stop: Also merge up to this module only; behind it every generator keeps its own layers.
        samples: Images of each generator.
        drawn: How many of them are drawn.
        seed: Of the noise, for statistics and samples alike.

    Returns:
        dict: Sliced Wasserstein distances of 7 x 7 patches (pixels from -1 to 1) between all samples of a generator and
        each training image, by generator.

    Raises:
        ConfigError: Fewer than two, two of one image, or generators of different sizes.
        ArtefactError: A checkpoint does not fit, or its training has not come to its end.
    """
    init_default_scope('mmreuse')
    generators, originals = load_sources(sources)
    images = sample_all(generators, matchers, stop, samples, seed)
    distances = {row: {f'to {name}': sliced_wasserstein(patches(made), patches(original))
                       for name, original in originals.items()} for row, made in (originals | images).items()}
    save_figure(folder / 'samples.png', originals | {name: made[:drawn] for name, made in images.items()})
    write_json(folder / 'samples.json', dict(sources=sources, samples=samples, seed=seed, patch_distance=distances))
    return distances


def load_source(config: str, checkpoint: str, number: int) -> tuple[str, SinGAN, Tensor]:
    """Load a trained generator with the name and the pixels (1, 3, H, W) of its image at its finest scale.

    Raises:
        ConfigError: The config's model is no SinGAN.
        ArtefactError: The checkpoint does not fit, or its training has not come to its end.
    """
    source = build_source(dict(config=config, checkpoint=checkpoint), number)
    if not isinstance(source.model, SinGAN):
        raise ConfigError(f'{config}: the model is a {type(source.model).__name__}; only a SinGAN learns one image')
    source.load()
    model = source.model
    if model.trained_scales < len(model.sizes):
        raise ArtefactError(f'{checkpoint}: {model.trained_scales} of {len(model.sizes)} scales are trained. Go on '
                            f'with tools/train.py {config} --resume.')
    data = DATASETS.build(load_config(config).train_dataloader.dataset)
    pixels = model.data_preprocessor(dict(inputs=[data[0]['inputs']]))['inputs']
    return Path(data.image).stem, model, resize(pixels, model.sizes[-1])


def noise_batches(samples: int, size: int, seed: int) -> list[Tensor]:
    """Draw noise for ``samples`` images, in batches (N, size); the same for every generator."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(samples, size, generator=generator).split(_BATCH))


@torch.no_grad()
def sample(model: nn.Module, noise: Sequence[Tensor]) -> list[Tensor]:
    """Return images (N, 3, H, W) of all batches, for each output of the model."""
    made = [model(batch) for batch in noise]
    return [torch.cat(parts) for parts in zip(*(each if isinstance(each, tuple) else (each,) for each in made),
                                              strict=True)]


def sample_all(generators: Mapping[str, nn.Module], matchers: Sequence[str], stop: str | None, samples: int,
               seed: int) -> dict[str, Tensor]:
    """Return images of the sources, of their mean (the ensemble), and of each merge, all on the same noise.

    Statistics of features and of batch norms are taken on other noise than that which is shown.
    """
    models = list(generators.values())
    seen, shown = (noise_batches(samples, models[0].noise_size, each) for each in (2 * seed, 2 * seed + 1))
    images = {name: sample(model, shown)[0] for name, model in generators.items()}
    images['mean of images'] = torch.stack(list(images.values())).mean(0)
    common = dict(inputs=seen[0][:1], moments={}, renormalizers=['reset'])
    for matcher in matchers:
        images[matcher], = sample(merge(models, seen, matcher, heads='merge', **common), shown)
    for matcher in matchers if stop else ():
        partial = sample(merge(models, seen, matcher, stop=stop, **common), shown)
        images |= {f'{matcher} to {stop}: {name}': made for name, made in zip(generators, partial, strict=True)}
    return images


def save_figure(path: Path, rows: Mapping[str, Tensor]) -> None:
    """Draw the rows in 256 colours, a third of the bytes of all colours."""
    whole = io.BytesIO()
    draw_image_rows(rows).savefig(whole, dpi=80, format='png')
    with atomic_path(path) as temporary:
        Image.open(whole).convert('RGB').quantize(256).save(temporary, 'PNG', optimize=True)


def load_sources(sources: Sequence[Sequence[str]]) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
    """Load generators and training images by name of the image.

    Raises:
        ConfigError: Fewer than two, two of one image, or generators of different sizes.
    """
    if len(sources) < 2:
        raise ConfigError('--source: give two or more')
    loaded = [load_source(*source, number) for number, source in enumerate(sources)]
    if any(model.sizes != loaded[0][1].sizes for _, model, _ in loaded):
        raise ConfigError('the generators have scales of different sizes, so that no noise fits all of them: train '
                          'them with the same image_size, min_size, max_size and factor')
    if len({name for name, _, _ in loaded}) < len(loaded):
        raise ConfigError('two generators learned the same image; merge generators of different images')
    return ({name: model.generator for name, model, _ in loaded},
            {f'image of {name}': image for name, _, image in loaded})
