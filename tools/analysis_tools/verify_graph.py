"""Trace models of a library and prove their feature spaces; one line per model, a summary last.

    python tools/analysis_tools/verify_graph.py --library timm --pattern 'resnet1*'

Each model is built with random weights in a process of its own, under limits of memory and time.
"""
from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import resource
import sys
import time
import warnings
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
from model_libraries import (  # noqa: E402
    LIBRARIES,
    build_model,
    draw_models,
    input_sizes,
    list_models,
    smallest_of_each_family,
)

from mmreuse.command_line import ToolParser, run_tool  # noqa: E402
from mmreuse.errors import ConfigError, TraceError  # noqa: E402
from mmreuse.utils.command_line import memory as bytes_of  # noqa: E402

if TYPE_CHECKING:
    import torch

    from mmreuse.graph import TracedModel


def examine(library: str, name: str, size: int | None) -> dict[str, Any]:
    """Trace and verify one model; what went wrong is part of the result."""
    start = time.perf_counter()
    record: dict[str, Any] = dict(model=name, traced=False, verified=False, reason='')
    try:
        model = build_model(library, name)
        record['parameters'] = sum(parameter.numel() for parameter in model.parameters())
        graph = trace_smallest(model, [size] if size else input_sizes(library, name, model), record)
        record.update(traced=True, spaces=len(graph.spaces), trace_seconds=round(time.perf_counter() - start, 2),
                      pins=[str(pin) for pin in graph.pins])
        report = graph.verify()
        record.update(verified=True, features=report.features, share=report.share, error=report.error)
    except Exception as error:  # one line per model, whatever happens to it
        record['reason'] = f'{type(error).__name__}: {error}'
    record['seconds'] = round(time.perf_counter() - start, 2)
    return record


def trace_smallest(model: torch.nn.Module, sizes: list[int], record: dict[str, Any]) -> TracedModel:
    """Trace at the first size that the model accepts."""
    import torch

    from mmreuse.graph import trace
    for size in sizes[:-1]:
        try:
            record['size'] = size
            return trace(model, torch.zeros(1, 3, size, size))
        except TraceError:
            continue
    record['size'] = sizes[-1]
    return trace(model, torch.zeros(1, 3, sizes[-1], sizes[-1]))


def _child(library: str, name: str, size: int | None, memory: float, pipe: Any) -> None:
    """Run in a forked process; the limit counts what is allocated beyond the parent's memory."""
    import torch
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    with open('/proc/self/statm') as file:
        used = int(file.read().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    limit = used + int(memory)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    logging.disable(logging.WARNING)
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):  # libraries are talkative
        pipe.send(examine(library, name, size))


def guarded(library: str, name: str, size: int | None, memory: float, timeout: float) -> dict[str, Any]:
    """Examine a model in a process that may be ended."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context('fork').Process(target=_child, args=(library, name, size, memory, send))
    process.start()
    send.close()
    record = dict(model=name, traced=False, verified=False, seconds=timeout)
    try:
        if receive.poll(timeout):
            return receive.recv()
        return record | dict(reason=f'took longer than {timeout:g} s')
    except EOFError:
        process.join()
        return record | dict(reason=f'ended with exit code {process.exitcode} (limit of memory: {memory / 1e9:g} GB)')
    finally:
        process.kill()
        process.join()


def line_of(record: dict[str, Any]) -> str:
    """One line of the listing."""
    if record['verified']:
        result = f"verified, error {record['error']:.0e}, {len(record['pins'])} held"
    else:
        result = ' '.join(record['reason'].split())[:160]
    return f"{record['model']:<45} {record.get('spaces', '-'):>5} spaces {record['seconds']:>7.2f} s  {result}"


def parse_args() -> Namespace:
    parser = ToolParser(__doc__, aliases={'--size': '--input-size', '--sample': '--draws',
                                          '--memory': '--memory-limit'})
    parser.add_argument('--library', choices=LIBRARIES, required=True)
    parser.add_argument('--pattern', default='*', help='glob pattern of model names, e.g. "resnet*"')
    parser.add_argument('--one-per-family', action='store_true', help='only the smallest model of each family')
    parser.add_argument('--draws', type=int, help='only so many models, drawn at random')
    parser.add_argument('--seed', type=int, help='of the draw (default: the date); printed, to draw the same again')
    parser.add_argument('--max-parameters', type=float, default=math.inf, help='pass over larger models when drawing')
    parser.add_argument('--out', help='JSON file for the results')
    parser.add_argument('--input-size', type=int,
                        help='side of the square image (default: small, or as the model asks)')
    parser.add_argument('--timeout', type=float, default=300, help='seconds per model (default: 300)')
    parser.add_argument('--memory-limit', type=bytes_of, default=6.5e9, metavar='GB',
                        help='of a model, such as 2 or 500MB (default: 6.5)')
    return parser.parse_args()


def run(args: Namespace) -> None:
    import torch

    from mmreuse.utils.files.io import write_json
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    families = list_models(args.library, args.pattern)
    if not families:
        raise ConfigError(f"{args.library} has no model that matches '{args.pattern}'")
    names = smallest_of_each_family(args.library, families) if args.one_per_family else list(families)
    if args.draws:
        seed = int(time.strftime('%Y%m%d')) if args.seed is None else args.seed
        names = draw_models(args.library, names, args.draws, seed, args.max_parameters)
        print(f'{len(names)} models drawn with --seed {seed}')
    records = []
    for number, name in enumerate(names, 1):
        record = guarded(args.library, name, args.input_size, args.memory_limit, args.timeout)
        records.append(record | dict(family=families[name]))
        print(f'{number:>4}/{len(names)} {line_of(records[-1])}', flush=True)
        if args.out:
            write_json(args.out, dict(library=args.library, models=records))
    traced, verified = (sum(record[key] for record in records) for key in ('traced', 'verified'))
    print(f'traced {traced}/{len(names)}, verified {verified}/{len(names)}')


if __name__ == '__main__':
    run_tool(run, parse_args())
