"""A pruned network loses its features as a merged one does, and can be corrected in the same way.

The smallest weights of a network, wherever they are, become zero. Nothing is trained. RESET takes the statistics of
batch norms anew; REPAIR gives every channel the mean and deviation that it has in the dense network, and works without
batch norms as well.

    python examples/renormalize_pruned_model.py [--small]
"""
import copy
from collections.abc import Sequence

from common import arguments, load_data, report, train, vgg

from mmreuse.apis import prune
from mmreuse.diagnostics import variance_ratio
from mmreuse.renormalization import apply_renormalizers
from mmreuse.statistics.evaluate import accuracy
from mmreuse.visualization import draw_layers

SPARSITIES = (.5, .7, .8)


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small, size=16)
    pictures = [images for images, _ in data.train]
    rows, ratios = [], {}
    for family, norm, renormalizers in (('VGG-BN', 'bn', ('reset', 'repair')), ('VGG-LN', 'ln', ('repair', ))):
        dense = train(args, vgg(args.small, norm), data)
        rows.append(dict(net=family, sparsity=0., renormalizer='none', accuracy=100 * accuracy(dense, data.test)))
        for sparsity in SPARSITIES:
            pruned, _ = prune(dense, None, sparsity, 'magnitude', scope='global')
            for name in ('none', *renormalizers):
                model = copy.deepcopy(pruned)
                if name != 'none':
                    apply_renormalizers(model, pictures, name, ends=[dense], samples=512)
                rows.append(dict(net=family, sparsity=sparsity, renormalizer=name,
                                 accuracy=100 * accuracy(model, data.test)))
                if sparsity == SPARSITIES[-1]:
                    found = variance_ratio(model, [dense], pictures, samples=512)
                    ratios.setdefault(family, {})[name] = found.ratio.tolist()
    titles = {f'{family}, {SPARSITIES[-1]:.0%} pruned: variance over that of the dense net': lines
              for family, lines in ratios.items()}
    report(args, 'renormalize_pruned_model', rows, draw_layers(titles, found.layers), ratios=ratios)
    return rows


if __name__ == '__main__':
    main()
