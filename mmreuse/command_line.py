"""The main of all command lines in ``tools/``; torch is imported after the arguments are read, so --help is quick."""
import shlex
import sys
import warnings
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmreuse.utils.command_line import OptionAction, add_arguments
from mmreuse.utils.deprecation import warn_renamed
from mmreuse.utils.processes.interruption import signals_end_runs
from mmreuse.utils.setup_env import quiet_imports

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import Tensor

# mmcv without compiled operators says so at every start; nothing here uses them.
warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
#: All former spellings are of options that 0.2.0 renamed.
_ALIASES_UNTIL = '0.4.0'


class ToolParser(ArgumentParser):
    """Parser of a tool's command line.

    Args:
        description: What the tool does, its docstring; shown as it is.
        aliases: Former spellings of options, which are accepted with a warning and not shown.
        **options: Of argparse.
    """

    def __init__(self, description: str | None = None, aliases: Mapping[str, str] | None = None,
                 **options: Any) -> None:
        super().__init__(description=description, **{'formatter_class': RawDescriptionHelpFormatter, **options})
        self.aliases = dict(aliases or {})

    def parse_known_args(self, args: Sequence[str] | None = None,
                         namespace: Namespace | None = None) -> tuple[Namespace, list[str]]:
        """Parse, with former spellings replaced; refuse names of files that no log could hold."""
        given = sys.argv[1:] if args is None else args
        for each in given:
            try:
                each.encode()
            except UnicodeEncodeError:
                self.error(f'{each!r} is not in UTF-8. Rename the file.')
        return super().parse_known_args(list(map(self._present, given)), namespace)

    def _present(self, word: str) -> str:
        """Return a word of the command line with the present spelling of an option."""
        option, *value = word.split('=', 1)
        if option not in self.aliases:
            return word
        warn_renamed(option, self.aliases[option], _ALIASES_UNTIL)
        return '='.join([self.aliases[option], *value])


class InputSizeAction(Action):
    """``C H W``, or the side of a square image of three channels."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Sequence[int],
                 option_string: str | None = None) -> None:
        """Keep three numbers."""
        if len(values) not in (1, 3):
            parser.error(f'{option_string} takes C H W, or the side of a square image.')
        setattr(namespace, self.dest, list(values) if len(values) == 3 else [3, *2 * values])


def add_input_size(parser: ArgumentParser, required: bool = False) -> None:
    """Add ``--input-size``."""
    parser.add_argument('--input-size', nargs='+', type=int, action=InputSizeAction, required=required,
                        metavar='N', help='of an image: C H W, or the side of a square one')


def add_model(parser: ArgumentParser) -> None:
    """Add ``--model`` and ``--model-options``."""
    parser.add_argument('--model', help='what .pth files are weights of: timm:NAME, torchvision:NAME, mmpretrain:NAME, '
                        'transformers:CLASS, FILE.py:FUNCTION. Own code is run, also where network files name it')
    parser.add_argument('--model-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', default={},
                        help='of the model, e.g. num_classes=10')


def add_matcher(parser: ArgumentParser, default: Mapping[str, Any] | None = None) -> None:
    """Add ``--matcher``, which takes a type and options."""
    parser.add_argument('--matcher', nargs='+', action=OptionAction, metavar='KEY=VALUE', default=default,
                        help='type and options of a matcher that permutes'
                        + (f' (default: {" ".join(f"{key}={value}" for key, value in default.items())})'
                           if default else ''))


def run_tool(run: Callable[[Namespace], None], args: Namespace) -> None:
    """Run a tool; what goes wrong on purpose ends in one message, and a signal in one line that says how to go on."""
    with signals_end_runs(_goes_on(args), waits=getattr(args, 'launcher', 'none') != 'none'):
        with quiet_imports():
            from mmreuse.engine.launch import leave_process_group, reported_errors
        with reported_errors():
            run(args)
            leave_process_group()


def _goes_on(args: Namespace) -> str:
    """Return the command that goes on from what this one has done."""
    own = [word for word in sys.argv if word != '--overwrite']
    if getattr(args, 'resume', 'auto') != 'auto':
        own.append('--resume')
    program, *words = own
    own = [*program.split(), *words] if program.startswith('mmreuse ') else ['python', program, *words]
    # The command of the launcher is not known to the processes that it starts.
    return shlex.join(own) if getattr(args, 'launcher', 'none') == 'none' else (
        f'the same launcher and {shlex.join(own[1:])}')


def save_weights(out: Path, tensors: 'Mapping[str, Tensor]', **provenance: Any) -> None:
    """Write converted weights with what they were made of, and print the file and its hash."""
    from mmreuse.utils.files.io import file_hash, save_tensors
    save_tensors(out, tensors, metadata=dict(provenance=provenance))
    print(f'{out}  {file_hash(out)}')


def stage_parser(description: str, reads: str, overrides: Mapping[str, Mapping[str, Any]] | None = None,
                 **options: Any) -> ToolParser:
    """Return a parser for the stage of a config.

    Args:
        description: What the tool does.
        reads: What the config has to hold.
        overrides: Keys of the config, ``'pruning.sparsities'``, that an option of the key's last part sets:
            ``--sparsities``; with the arguments of ``add_argument``.
        **options: Of :class:`ToolParser`.
    """
    parser = ToolParser(description, **options)
    parser.add_argument('config', help=f'config file with {reads}')
    for key, settings in (overrides or {}).items():
        text = f'{settings["help"]} (default: {key} of the config)'
        parser.add_argument(f'--{key.rpartition(".")[2]}', dest=key, **{**settings, 'help': text})
    parser.add_argument('--overwrite', action='store_true', help='compute again what is up to date')
    add_arguments(parser)
    parser.set_defaults(overridden=tuple(overrides or ()))
    return parser


def stage_config(args: Namespace, runner_type: str) -> 'Config':
    """Return the config of a stage with what the command line overrides."""
    from mmreuse.engine import launch
    cfg = launch.prepare(args)
    cfg.runner_type, cfg.overwrite = runner_type, args.overwrite
    given = {key: getattr(args, key) for key in args.overridden}
    cfg.merge_from_dict({key: value for key, value in given.items() if value is not None})
    return cfg


def stage_main(description: str, runner_type: str, reads: str,
               overrides: Mapping[str, Mapping[str, Any]] | None = None, **options: Any) -> None:
    """Run the whole tool of a stage; arguments as :func:`stage_parser` takes them."""
    def run(args: Namespace) -> None:
        from mmreuse.engine import launch
        launch.run(launch.build_runner(stage_config(args, runner_type)))

    run_tool(run, stage_parser(description, reads, overrides, **options).parse_args())


def merging_main(description: str, table: str, arguments: Mapping[str, Mapping[str, Any]] | None = None,
                 split: str = 'test') -> None:
    """Run the whole tool of a table of :mod:`mmreuse.engine.studies.merging_tables`.

    Args:
        description: What the tool does.
        table: Name of the function.
        arguments: Its own ones: flags to what ``add_argument`` takes.
        split: What is measured on by default.
    """
    parser = ToolParser(description)
    parser.add_argument('config', help='config file that merges')
    own = [parser.add_argument(flag, **settings).dest for flag, settings in (arguments or {}).items()]
    parser.add_argument('--split', choices=('val', 'test'), default=split,
                        help='what to measure on (default: %(default)s)')
    add_arguments(parser)

    def run(args: Namespace) -> None:
        from mmreuse.engine import launch
        from mmreuse.engine.studies import merging_tables
        getattr(merging_tables, table)(launch.prepare(args), args.split, **{name: getattr(args, name) for name in own})

    run_tool(run, parser.parse_args())


def train_each(args: Namespace, names: Sequence[str], options: Callable[[str], Mapping[str, Any]] | None = None,
               change: Callable[['Config', str], None] | None = None) -> None:
    """Train a config once for each name, in ``WORK_DIR/<name>``; what is done is skipped, what was killed resumes.

    Args:
        args: Of the command line: the config, and what :func:`add_arguments` adds, with ``amp``.
        names: Of the runs, in order.
        options: From a name to dotted keys and values, over the config.
        change: Changes the config of a name further.
    """
    from mmreuse.engine import launch
    for name in names:
        own = {**(args.cfg_options or {}), **(options(name) if options else {})}
        cfg = launch.prepare(Namespace(**{**vars(args), 'cfg_options': own}))
        cfg.work_dir = str(Path(cfg.work_dir, name))
        if Path(cfg.work_dir, 'metrics.json').is_file():
            print(f'{cfg.work_dir}: done')
            continue
        if change is not None:
            change(cfg, name)
        cfg.resume = True
        if args.amp:
            launch.set_precision(cfg)
        launch.run(launch.build_runner(cfg))
