"""The vanishing feature where it can be seen best: in networks without activations.

A linear network is f(x) = g(x) + h, with g the product of all weights and h what the biases add. Two networks that were
trained alike from different initialisations have weights that have nothing to do with each other, so that averaging
makes every matrix smaller. g goes through all of them and vanishes. h does not: a bias goes only through the matrices
behind it, and stays. The averaged network says nearly the same for every image.

    python examples/vf_in_linear_networks.py [--small]
"""
from collections.abc import Sequence

from common import arguments, load_data, report, train

from mmreuse.diagnostics import feature_magnitudes, normalised, parameter_magnitudes, rescaled
from mmreuse.merging import align, interpolate
from mmreuse.models import LinearMLP
from mmreuse.statistics.evaluate import accuracy
from mmreuse.visualization import draw_layers


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small)

    # Eight linear layers of 32 features, as published. So small a start needs more steps than the digits allow.
    def make() -> LinearMLP:
        return LinearMLP(8, in_features=data.pixels, num_classes=10, init_std=.1 if args.small else .002)

    ends = [train(args, make, data, number=net, epochs=5, lr=1e-2) for net in range(2)]

    # Three ways to the midpoint: as the networks are, aligned by their weights, aligned by their features.
    pictures = [images for images, _ in data.train]
    pairs = {'direct': ends,
             'weight matching': align(ends, None, 'weight_matching', inputs=data.zeros),
             'activation matching': align(ends, pictures, 'permute', inputs=data.zeros)}
    midpoints = {name: interpolate(pair, [.5, .5]) for name, pair in pairs.items()}

    # One pass measures all of them. The norm is that of the figure in the paper, on one batch of 256 test images.
    models = {**midpoints, 'net 1': ends[0], 'net 2': ends[1]}
    sizes = feature_magnitudes(list(models.values()), [images for images, _ in data.test], norm='l2', samples=256)
    induced, offset = (dict(zip(models, values.tolist(), strict=True)) for values in (sizes.induced, sizes.offset))
    left = normalised(sizes.induced[0], sizes.induced[3:])
    print(f'The averaged net keeps {left[0]:.0%} of g at the first layer and {left[-1]:.1%} at the last.')
    rows = [dict(net=name, accuracy=100 * accuracy(model, data.test), g_first=induced[name][0],
                 g_last=induced[name][-1], h_first=offset[name][0], h_last=offset[name][-1])
            for name, model in models.items()]

    # How much of the loss is the smaller weights alone? Scale g by what the matrices on its way have lost.
    direct = [midpoints['direct'], *ends]
    weights = parameter_magnitudes(direct)
    scaled = rescaled(feature_magnitudes(direct, [images for images, _ in data.test], norm='l2', samples=256), weights)
    names = ('direct', 'net 1', 'net 2')
    figure = draw_layers({
        'input-induced feature g': {**induced, 'direct, rescaled': scaled.tolist()},
        'offset h': offset,
        'mean |W|': dict(zip(names, weights.weight.tolist(), strict=True)),
        'mean |b|': dict(zip(names, weights.bias.tolist(), strict=True)),
    }, sizes.layers)
    report(args, 'vf_in_linear_networks', rows, figure, magnitudes=sizes, parameters=weights, rescaled=scaled)
    return rows


if __name__ == '__main__':
    main()
