"""What residual connections save when networks are averaged.

Linear networks of five layers, with and without residual connections. The connection is an identity matrix that is not
trained. Averaging shrinks the weights but leaves the mean of two identities an identity, so that part of g passes
unharmed. To weight matching the identity is a weight like others: permuted along both sides, and part of what is
matched.

    python examples/effect_of_residual_connection.py [--small]
"""
from collections.abc import Sequence
from statistics import mean, stdev

from common import arguments, load_data, report, train

from mmreuse.diagnostics import compare_merges
from mmreuse.merging import align, curve, interpolate, points
from mmreuse.models import LinearMLP
from mmreuse.visualization import draw_connectivity


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small)
    runs, epochs, init_std = (2, 5, .1) if args.small else (5, 20, .005)
    lines, midpoints = [], {}
    for run in range(runs):
        for residual in (False, True):

            def make(residual: bool = residual) -> LinearMLP:
                return LinearMLP(5, in_features=data.pixels, residual=residual, num_classes=10, init_std=init_std)

            ends = [train(args, make, data, number=2 * run + net, epochs=epochs, lr=1e-2) for net in range(2)]
            # `include_buffers` lets the identities take part in the matching.
            aligned = align(ends, None, dict(type='weight_matching', include_buffers=True), inputs=data.zeros)
            nets = 'residual' if residual else 'plain'
            for matcher, pair in {'direct': ends, 'weight matching': list(aligned)}.items():
                # The figure has a column for each matcher and a line for each kind of network.
                lines += [dict(row, pair=run, matcher=matcher, renormalizer=nets, alpha=row['weights'][1])
                          for row in curve(pair, points(11), None, data.test)]
                case = {matcher: (interpolate(pair, [.5, .5]), pair)}
                midpoints.setdefault((nets, matcher), []).append(compare_merges(case, data.test)[matcher])

    rows = []
    for (nets, matcher), found in midpoints.items():
        accuracies = [100 * each.accuracy for each in found]
        rows.append(dict(nets=nets, matcher=matcher, midpoint=mean(accuracies), midpoint_std=stdev(accuracies),
                         ends=100 * mean(end for each in found for end in each.ends),
                         g_left=mean(each.induced[-1].item() for each in found),
                         h_left=mean(each.offset[-1].item() for each in found)))
    report(args, 'effect_of_residual_connection', rows, draw_connectivity(lines), runs=runs, lines=lines)
    return rows


if __name__ == '__main__':
    main()
