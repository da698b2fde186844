"""The vanishing feature in merged and in pruned networks, and in what they say.

Averaging the weights of two networks and setting most weights of one to zero have the same effect: what depends on the
input shrinks from layer to layer, until the logits are those of an image of zeros. E is the size of g over that of the
networks it was made of; the thin lines are its envelope. RESET brings it back where there are batch norms.

    python examples/vf_in_merged_and_pruned_models.py [--small]
"""
from collections.abc import Sequence

from common import arguments, load_data, report, resnet, train, vgg

from mmreuse.apis import prune
from mmreuse.diagnostics import by_depth, envelope, feature_magnitudes, normalised, output_statistics
from mmreuse.merging import interpolate
from mmreuse.statistics.evaluate import accuracy
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.visualization import draw_outputs, draw_vanishing


def main(argv: Sequence[str] | None = None) -> list[dict]:
    args = arguments(__doc__, argv)
    data = load_data(args.small, size=16)
    test = [images for images, _ in data.test]
    rows, left, bounds = [], {}, {}
    families = {'VGG': vgg(args.small, None), 'VGG-BN': vgg(args.small, 'bn'), 'ResNet': resnet(args.small)}
    for family, make in families.items():
        ends = [train(args, make, data, number=net) for net in range(2)]
        made = {'merged': (interpolate(ends, [.5, .5]), ends)}
        if family != 'VGG':  # RESET is for batch norms
            options = dict(scope='global')
            made['pruned'] = prune(ends[0], None, .9, 'magnitude', **options)[0], ends[:1]
            made['pruned, reset'] = prune(ends[0], data.train, .9, 'magnitude', **options)[0], ends[:1]
        for what, (model, sources) in made.items():
            sizes = feature_magnitudes([model, *sources], test)
            name = f'{family}, {what}'
            left[name] = normalised(sizes.induced[0], sizes.induced[1:])
            bounds[name] = envelope(left[name])
            curve = by_depth(bounds[name])[1]
            rows.append(dict(net=name, accuracy=100 * accuracy(model, data.test), envelope_30=curve[5],
                             envelope_50=curve[9], g_left=left[name][-1].item()))
        if family == 'ResNet':
            merged = output_statistics([made['merged'][0], *ends], test)

    # The averaged network's logits: their mean is f(0), and they hardly differ from image to image.
    parts = [dict(zip(('merged', 'net 1', 'net 2'), values.tolist(), strict=True))
             for values in (merged.mean, merged.deviation, merged.zero)]
    with atomic_path(args.out / 'vf_in_merged_and_pruned_models_outputs.png') as path:
        draw_outputs(*parts).savefig(path, format='png', dpi=120)
    report(args, 'vf_in_merged_and_pruned_models', rows, draw_vanishing(left, bounds), outputs=merged, left=left)
    return rows


if __name__ == '__main__':
    main()
