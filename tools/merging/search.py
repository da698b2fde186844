"""Search options of the matcher and the stop on validation data, then measure the best on the test data.

All trials share one pass over the data for matching. A search that was killed resumes. Appends to
zipit_hyperparameters.csv in the work-dir and writes search.json there, best first.

    python tools/merging/search.py configs/zipit/zipit_resnet20-2x_cifar10-jpeg-5+5.py --param alpha 0.1 0.3 1 \\
        --param beta 0 0.125 --stops none backbone.layer2
"""
from mmreuse.command_line import merging_main

if __name__ == '__main__':
    merging_main(__doc__, 'search', {
        '--param': dict(nargs='+', action='append', metavar=('NAME', 'VALUE'),
                        help='an option of the matcher and its values (default: the published grid of zip)'),
        '--stops': dict(nargs='+', metavar='MODULE', help="'none' merges everything (default: the config's)"),
        '--draws': dict(type=int, help='try so many combinations, drawn with --seed (default: all)'),
        '--metric': dict(default='joint', help='what counts (default: %(default)s)')}, split='val')
