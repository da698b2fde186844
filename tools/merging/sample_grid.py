"""Merge generators that learned one image each, and draw what they, and their merges, make of the same noise.

    python tools/merging/sample_grid.py \
        --source configs/zipit/singan_48px-300i_china.py work_dirs/singan_48px-300i_china/iter_1200.pth \
        --source configs/zipit/singan_48px-300i_flower.py work_dirs/singan_48px-300i_flower/iter_1200.pth \
        --out-dir work_dirs/singan_merged

writes `samples.png`, a row of images for every generator, and `samples.json`: sliced Wasserstein distances of 7 x 7
patches (pixels from -1 to 1) between all samples of a generator and each training image.
"""
import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmreuse.utils.setup_env import require_openmmlab

require_openmmlab()

import torch
from mmengine.registry import init_default_scope
from PIL import Image
from torch import Tensor, nn

from mmreuse.engine.launch import load_config, reported_errors
from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.evaluation.patches import patches, sliced_wasserstein
from mmreuse.merging.merge import merge
from mmreuse.models import SinGAN
from mmreuse.models.classifiers.sources import build_source
from mmreuse.models.generators.singan import resize
from mmreuse.registry import DATASETS
from mmreuse.utils.files.io import atomic_path, write_json
from mmreuse.visualization.image_grid import draw_image_rows

_BATCH = 8


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--source', nargs=2, action='append', required=True, metavar=('CONFIG', 'CHECKPOINT'),
                        help='a trained generator; give two or more, of images of one size')
    parser.add_argument('--matchers', nargs='+', default=['identity', 'permute', 'zip'],
                        help='how to merge; identity is the plain average (default: %(default)s)')
    parser.add_argument('--stop', help='also merge up to this module only, e.g. scales.0.2; behind it every generator '
                        'keeps its own layers')
    parser.add_argument('--samples', type=int, default=64, help='images of each generator (default: %(default)s)')
    parser.add_argument('--drawn', type=int, default=4, help='how many of them are drawn (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the noise, for statistics and samples alike')
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/sample_grid'))
    return parser.parse_args()


def load_source(config: str, checkpoint: str, number: int) -> tuple[str, SinGAN, Tensor]:
    """A trained generator with the name and the pixels (1, 3, H, W) of its image at its finest scale.

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
    """Noise for ``samples`` images, in batches (N, size); the same for every generator."""
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(samples, size, generator=generator).split(_BATCH))


@torch.no_grad()
def sample(model: nn.Module, noise: Sequence[Tensor]) -> list[Tensor]:
    """Images (N, 3, H, W) of all batches, for each output of the model."""
    made = [model(batch) for batch in noise]
    return [torch.cat(parts) for parts in zip(*(each if isinstance(each, tuple) else (each,) for each in made),
                                              strict=True)]


def sample_all(generators: Mapping[str, nn.Module], matchers: Sequence[str], stop: str | None, samples: int,
               seed: int) -> dict[str, Tensor]:
    """Images of the sources, of their mean (the ensemble), and of each merge, all on the same noise.

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
    """Generators and training images by name of the image.

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


def main() -> None:
    args = parse_args()
    init_default_scope('mmreuse')
    with reported_errors():
        generators, originals = load_sources(args.source)
        images = sample_all(generators, args.matchers, args.stop, args.samples, args.seed)
    distances = {row: {f'to {name}': sliced_wasserstein(patches(made), patches(original))
                       for name, original in originals.items()} for row, made in (originals | images).items()}
    rows = originals | {name: made[:args.drawn] for name, made in images.items()}
    save_figure(args.out_dir / 'samples.png', rows)
    write_json(args.out_dir / 'samples.json', dict(
        sources=args.source, samples=args.samples, seed=args.seed, patch_distance=distances))
    for row, to in distances.items():
        print(f'{row:32}' + '  '.join(f'{name} {value:.3f}' for name, value in to.items()))


if __name__ == '__main__':
    main()
