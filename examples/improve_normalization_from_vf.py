"""Better ways to put a merged network right, which follow from the vanishing feature.

REPAIR gives every channel of the midpoint the mean and deviation of the ends. Where g has vanished that amplifies
noise and brings back an offset that has not vanished at all. RESCALE lets means scale along. Bias calibration needs no
data: it averages biases with the powers of the weights that g is averaged with. Bias removal leaves out the last ones;
how many is chosen on validation images.

    python examples/improve_normalization_from_vf.py [--small]
"""
from collections.abc import Sequence

from common import arguments, load_data, report, train, vgg

from mmreuse.merging import align, barrier, curve, points
from mmreuse.visualization import draw_connectivity

RENORMALIZERS = {'none': [], 'REPAIR': 'repair', 'RESCALE': 'rescale', 'bias calibration': 'bias_calibration',
                 'bias removal': 'bias_removal'}


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small, size=16)
    ends = [train(args, vgg(args.small, None), data, number=net) for net in range(2)]
    pictures = [images for images, _ in data.train]
    weights = points(5 if args.small else 11)
    lines, rows = [], []
    for name, matcher in {'WM': 'weight_matching', 'AM': 'permute'}.items():
        aligned = align(ends, pictures, matcher, inputs=data.zeros, samples=512)
        # All points and renormalizers see the same images; the ends are measured once for all of them.
        found = curve(aligned, weights, pictures, data.test, renormalizers=RENORMALIZERS, samples=512,
                      validation=data.validation)
        lines += [dict(row, pair=0, matcher=name, alpha=row['weights'][1]) for row in found]
        for renormalizer in RENORMALIZERS:
            line = [row for row in found if row['renormalizer'] == renormalizer]
            rows.append(dict(matcher=name, renormalizer=renormalizer, midpoint=line[len(line) // 2]['accuracy/top1'],
                             barrier=barrier(line)['accuracy/top1']))
    report(args, 'improve_normalization_from_vf', rows, draw_connectivity(lines), lines=lines)
    return rows


if __name__ == '__main__':
    main()
