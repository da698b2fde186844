"""List what there is: jobs and their options, methods, shipped configs, network files here, models of a library.

    python tools/list.py jobs                    (or: mmreuse list jobs)
    mmreuse list configs zipit
    mmreuse list networks 'work_dirs/*'
    mmreuse list timm 'resnet1*'
"""
from __future__ import annotations

import fnmatch
from argparse import Namespace

from mmreuse.command_line import ToolParser, run_tool

METHODS = ('jobs', 'matchers', 'mergers', 'renormalizers', 'saliencies', 'proxies', 'similarities', 'teachers',
           'engines', 'attacks')
LIBRARIES = ('timm', 'torchvision', 'mmpretrain', 'transformers')


def parse_args() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument('what', choices=[*METHODS, 'configs', 'networks', *LIBRARIES])
    parser.add_argument('pattern', nargs='?', default='*', help="part of a name, or a pattern such as 'resnet1*'")
    return parser.parse_args()


def lines_of(what: str) -> list[tuple[str, str]]:
    """Return names, each with what there is to say of it."""
    if what == 'configs':
        from mmreuse.utils.files.paths import shipped
        root = shipped('configs')
        return [(f'configs/{file.relative_to(root)}', '') for file in sorted(root.glob('*/**/*.py'))
                if not file.name.startswith('_')]
    if what == 'networks':
        from mmreuse.networks import list_models
        from mmreuse.networks.describe import history
        from mmreuse.networks.network_file import read
        return [(name, history(read(name)[1]['structure'])) for name in list_models(folder='.')]
    if what in LIBRARIES:
        from mmreuse.networks import list_models
        return [(name.partition(':')[2], '') for name in list_models(f'{what}:*')]
    from mmreuse import registry
    methods = getattr(registry, what.upper())
    methods.import_from_location()
    return [(name, ', '.join(methods.method(function).settable))
            for name, function in sorted(methods.module_dict.items())]


def run(args: Namespace) -> None:
    pattern = args.pattern if set('*?[') & set(args.pattern) else f'*{args.pattern}*'
    found = [(name, text) for name, text in lines_of(args.what) if fnmatch.fnmatch(name, pattern)]
    width = max((len(name) for name, text in found if text), default=0)
    for name, text in found:
        print(f'{name:{width}}  {text}'.rstrip())
    if not found:
        print(f"no {args.what} match '{args.pattern}'")


if __name__ == '__main__':
    run_tool(run, parse_args())
