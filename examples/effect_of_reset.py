"""What RESET does to a merged network with batch norms.

Averaged running variances are too large for averaged weights: norms divide by them, and the input-induced part of the
features gets smaller from norm to norm. RESET takes the statistics anew. Running means hardly change, running variances
fall, and that alone amplifies g again.

    python examples/effect_of_reset.py [--small]
"""
import copy
from collections.abc import Sequence

from common import arguments, load_data, report, train, vgg

from mmreuse.diagnostics import feature_magnitudes, normalised, running_statistics
from mmreuse.merging import align, interpolate
from mmreuse.renormalization import reset
from mmreuse.statistics.evaluate import accuracy
from mmreuse.visualization import draw_running_statistics


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small, size=16)
    ends = [train(args, vgg(args.small, 'bn'), data, number=net) for net in range(2)]
    pictures = [images for images, _ in data.train]
    merged = interpolate(align(ends, pictures, 'permute', inputs=data.zeros, samples=512), [.5, .5])

    # What RESET would change, without changing it, ...
    norms = running_statistics(merged, pictures, samples=512)

    # ... and what it does once it is done.
    after = copy.deepcopy(merged)
    reset(after, pictures, samples=512)
    models = {'matched': merged, 'matched, reset': after, 'net 1': ends[0], 'net 2': ends[1]}
    sizes = feature_magnitudes(list(models.values()), [images for images, _ in data.test])
    rows = [dict(net=name, accuracy=100 * accuracy(model, data.test),
                 g_left=normalised(own, sizes.induced[2:])[-1].item())
            for (name, model), own in zip(models.items(), sizes.induced, strict=True)]
    for norm in norms:
        print(f'{norm.layer}: |mean| {norm.mean.abs().mean():.3f} -> {norm.reset_mean.abs().mean():.3f}, '
              f'variance {norm.variance.mean():.3f} -> {norm.reset_variance.mean():.3f}')
    report(args, 'effect_of_reset', rows, draw_running_statistics(norms), variance_ratios={
        norm.layer: norm.variance_ratio for norm in norms})
    return rows


if __name__ == '__main__':
    main()
