"""Run benchmarks, and hold their ratios against the committed ones.

    python benchmarks                  # those of minutes, as make bench does
    python benchmarks zip cka          # these
    python benchmarks --all            # the slow ones too (hours)
    python benchmarks --table          # run nothing; write docs/en/reference/benchmarks.md from what is committed

A ratio below nine tenths of the committed one is warned of. Results of this run go to --out, one JSON file a
benchmark; what is to be committed is copied from there to benchmarks/results.
"""
import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / 'results'
PAGE = FOLDER.parent / 'docs' / 'en' / 'reference' / 'benchmarks.md'
#: Below this share of the committed ratio a benchmark has become worse.
SHARE = 0.9
#: These take more than ten minutes, train networks, or need data or weights.
SLOW = ('calibrate', 'curve', 'fast_modules', 'latency_budget', 'memory', 'merge_resnet50', 'mergers', 'module_files',
        'module_recipes', 'modules', 'modules_figure', 'preserve_first', 'problems_in_one_pass', 'pruning',
        'quantization', 'scale', 'scores', 'search', 'stitching', 'symmetries', 'united_modules')
_HEADER = """# Benchmarks

How much faster mmreuse is than the reference for each benchmark: `ratio` is the time of the reference divided by
ours. The numbers come from the files in `benchmarks/results`, which `python benchmarks/NAME.py --out
benchmarks/results/NAME.json` writes, measured with one thread on a shared machine of two cores. `range` is the spread
over repeated turns, where it was recorded.
[benchmarks/README.md](https://github.com/mmreuse/mmreuse/blob/main/benchmarks/README.md) describes the references,
and results that are not ratios of times.

`make bench` repeats the benchmarks that take minutes and warns if a ratio falls below nine tenths of the one given
here. `python benchmarks --table` writes this page.

| benchmark | case | reference (s) | ours (s) | ratio | range |
|---|---|---|---|---|---|
"""


def names() -> list[str]:
    """Return the names of all benchmarks."""
    return sorted(path.stem for path in FOLDER.glob('[a-z]*.py'))


def compare(name: str, found: Mapping[str, Any], committed: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield a line for every ratio of times, and whether it is well below the committed one."""
    for case, result in found.items():
        ratio, before = (ratio_of(each) for each in (result, committed.get(case)))
        if ratio is None:
            continue
        spread = f' ({result["ratio_low"]:.3g} to {result["ratio_high"]:.3g})' if 'ratio_low' in result else ''
        worse = before is not None and ratio < SHARE * before
        known = 'none is committed' if before is None else f'committed {before:.3g}'
        yield f'{"WARNING: " if worse else ""}{name}, {case}: ratio {ratio:.3g}{spread}, {known}', worse


def ratio_of(result: Any) -> float | None:
    """Return the ratio of times of a case; None where there is none."""
    ratio = result.get('ratio') if isinstance(result, Mapping) else None
    return float(ratio) if isinstance(ratio, int | float) and not isinstance(ratio, bool) else None


def page() -> str:
    """Return the page of all committed ratios."""
    lines = []
    for path in sorted(RESULTS.glob('*.json')):
        found = json.loads(path.read_text())
        for case, result in found.items() if isinstance(found, dict) else ():
            if (ratio := ratio_of(result)) is not None:
                spread = f'{result["ratio_low"]:.3g} to {result["ratio_high"]:.3g}' if 'ratio_low' in result else ''
                times = [f'{result[key]:.3g}' if key in result else '' for key in ('reference_s', 'ours_s')]
                lines.append(f'| `{path.stem}` | {case} | {times[0]} | {times[1]} | {ratio:.3g} | {spread} |')
    return _HEADER + '\n'.join(lines) + '\n'


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run a benchmark in a process of its own, and return what it measured."""
    out = folder / f'{name}.json'
    subprocess.run([sys.executable, str(FOLDER / f'{name}.py'), '--out', str(out)], check=True)
    return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', help='default: those that take minutes')
    parser.add_argument('--all', action='store_true', help='the slow ones too')
    parser.add_argument('--table', action='store_true', help='write the page of the documentation, run nothing')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/benchmarks'), help='default: %(default)s')
    args = parser.parse_args()
    if unknown := set(args.names) - set(names()):
        parser.error(f'there is no benchmark {", ".join(sorted(unknown))}; there are {", ".join(names())}')
    if args.table:
        PAGE.write_text(page())
        return
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in args.names or [each for each in names() if args.all or each not in SLOW]:
        committed = RESULTS / f'{name}.json'
        known = json.loads(committed.read_text()) if committed.is_file() else {}
        lines += compare(name, run(name, args.out), known)
    print('\n'.join(line for line, _ in lines))
    if any(worse for _, worse in lines):
        print(f'A ratio below {SHARE:.0%} of the committed one: run that benchmark alone on a quiet machine, and find '
              'the change if it stays.')


if __name__ == '__main__':
    main()
