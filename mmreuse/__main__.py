"""The command ``mmreuse``: each command is one of the tools, and each job a command.

    mmreuse merge a.pth b.pth --model timm:resnet18 --images photos/
    mmreuse train configs/zipit/zipit_vit_digits-5+5.py
"""
import sys
from collections.abc import Sequence
from pathlib import Path

from mmreuse.utils.files.paths import shipped
from mmreuse.utils.names import nearest
from mmreuse.version import __version__

#: By command: the tool, the arguments that it starts with, and what it does.
COMMANDS = {
    'quickstart': ('quickstart.py', (), 'show what mmreuse does on handwritten digits, in minutes'),
    'train': ('train.py', (), 'train a model, or run the stage of a config'),
    'run': ('train.py', (), 'the same: run what a config describes, pipelines for instance'),
    'test': ('test.py', (), 'evaluate a checkpoint'),
    'check': ('check.py', (), 'tell what can be done with a network, and what holds it back'),
    'describe': ('describe.py', (), 'tell what a network file holds'),
    'list': ('list.py', (), 'list jobs, methods, configs or models'),
    'table': ('deployment/table.py', (), 'measure networks on inference engines'),
    'merge': ('job.py', ('merge',), 'merge networks into one'),
    'unite': ('job.py', ('unite',), 'merge networks of different classes into one classifier of all'),
    'modularize': ('job.py', ('modularize_channels',), 'keep what some classes need of a network'),
    'prune': ('job.py', ('prune_channels',), 'remove channels'),
    'calibrate': ('job.py', ('renormalize', 'renormalizers=[calibrate]'),
                  'refit a changed network to what it came from'),
    'distill': ('job.py', ('distill',), 'train a changed network on what it came from says, without labels'),
    'quantize': ('job.py', ('quantize',), 'round a network to int8'),
    'export': ('job.py', ('export',), 'write a network for other programs'),
    'job': ('job.py', (), 'any job: mmreuse list jobs'),
    'reassemble': ('dery/run_pipeline.py', (), 'assemble a network from blocks of others'),
}


def usage() -> str:
    """Return the commands, a line each."""
    width = max(map(len, COMMANDS))
    return '\n'.join(['usage: mmreuse COMMAND [arguments]      mmreuse COMMAND --help', '',
                      *(f'  {name:{width}}  {text}' for name, (_, _, text) in COMMANDS.items())])


def run_file(path: Path) -> None:
    """Run a Python file as a program; unlike ``runpy`` it sees the name that the program was called by."""
    exec(compile(path.read_bytes(), str(path), 'exec'), {'__name__': '__main__', '__file__': str(path)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command.

    Args:
        arguments: Of the command line.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ['--help']
    if name in ('-h', '--help'):
        print(usage())
    elif name == '--version':
        print(f'mmreuse {__version__}')
    elif name not in COMMANDS:
        sys.exit(f"mmreuse: there is no command '{name}'. {nearest(name, COMMANDS)}\n\n{usage()}")
    else:
        tool, first, _ = COMMANDS[name]
        # Under the name of the tool itself, so that these arguments are those of a command that can be given again.
        itself = next(known for known, (other, own, _) in COMMANDS.items() if other == tool and not own)
        sys.argv = [f'mmreuse {itself}', *first, *rest]
        run_file(shipped(f'tools/{tool}'))


if __name__ == '__main__':
    main()
