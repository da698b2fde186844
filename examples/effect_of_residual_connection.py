"""What residual connections save when networks are averaged.

Linear networks of five layers, with and without residual connections. The connection is an identity matrix that is not
trained. Averaging shrinks the weights but leaves the mean of two identities an identity, so that part of g passes
unharmed. To weight matching the identity is a weight like others: permuted along both sides, and part of what is
matched.

    python examples/effect_of_residual_connection.py [--small]
"""
from collections.abc import Sequence

import torch
from common import arguments, load_data, report, train

from mmreuse.diagnostics import compare_merges
from mmreuse.merging import align, curve, interpolate, points
from mmreuse.models import LinearMLP
from mmreuse.visualization import draw_interpolation


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small)
    runs, epochs, init_std = (2, 5, .1) if args.small else (5, 20, .005)
    found: dict[str, list] = {}
    for run in range(runs):
        for residual in (False, True):

            def make(residual: bool = residual) -> LinearMLP:
                return LinearMLP(5, in_features=data.pixels, residual=residual, num_classes=10, init_std=init_std)

            ends = [train(args, make, data, number=2 * run + net, epochs=epochs, lr=1e-2) for net in range(2)]
            # `include_buffers` lets the identities take part in the matching.
            aligned = align(ends, None, dict(type='weight_matching', include_buffers=True), inputs=data.zeros)
            name = 'residual' if residual else 'plain'
            for label, pair in {name: ends, f'{name}, matched': list(aligned)}.items():
                line = curve(pair, points(11), None, data.test)
                midpoint = compare_merges({label: (interpolate(pair, [.5, .5]), pair)}, data.test)[label]
                found.setdefault(label, []).append(([row['accuracy/top1'] for row in line], midpoint))

    curves = {label: torch.tensor([line for line, _ in each]) for label, each in found.items()}
    rows = [dict(nets=label, midpoint=lines[:, 5].mean().item(), midpoint_std=lines[:, 5].std().item(),
                 ends=lines[:, [0, -1]].mean().item(),
                 g_left=sum(midpoint.induced[-1].item() for _, midpoint in found[label]) / runs,
                 h_left=sum(midpoint.offset[-1].item() for _, midpoint in found[label]) / runs)
            for label, lines in curves.items()]
    figure = draw_interpolation({label: lines.mean(0).tolist() for label, lines in curves.items()},
                                {label: lines.std(0).tolist() for label, lines in curves.items()})
    report(args, 'effect_of_residual_connection', rows, figure, curves=curves, runs=runs)
    return rows


if __name__ == '__main__':
    main()
