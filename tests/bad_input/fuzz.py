"""Run many cases of bad input and tell how they end.

    python tests/bad_input/fuzz.py --cases 2000 --out tests/bad_input/results.json
    python tests/bad_input/fuzz.py --only 1234 --verbose

Each case is made of the seed and its number alone, so that ``--only`` runs it again. Ctrl-C ends a run with the counts
of what was done; with the same ``--out`` the next one runs cases with faults again and goes on behind the others.
"""
import argparse
import copy
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from bad_artefacts import bad_artefact  # noqa: E402
from bad_command_lines import bad_command_line  # noqa: E402
from bad_configs import bad_config, bad_text, other_config  # noqa: E402
from bad_data import bad_file, bad_folder  # noqa: E402
from bad_numbers import bad_numbers  # noqa: E402
from cases import Verdict, run_case  # noqa: E402
from workspace import Workspace  # noqa: E402

#: Kinds of cases; their numbers go round in this order.
KINDS = dict(config=bad_config, other=other_config, text=bad_text, artefact=bad_artefact, folder=bad_folder,
             file=bad_file, command=bad_command_line, numbers=bad_numbers)
ROUND = ['config', 'artefact', 'command', 'other', 'text', 'file', 'config', 'other', 'numbers', 'text',
         'other', 'config', 'command', 'file', 'text', 'folder', 'config', 'other', 'artefact', 'text']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cases', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', type=int, nargs='+', help='numbers of the cases to run')
    parser.add_argument('--kind', choices=KINDS, help='only cases of this kind')
    parser.add_argument('--folder', type=Path, help='where to work; what was trained there is used again')
    parser.add_argument('--out', type=Path, help='JSON file for the counts; cases that it knows are not run again')
    parser.add_argument('--verbose', action='store_true', help='print every ending')
    args = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):  # a background job ignores the first
        signal.signal(each, signal.default_int_handler)
    known = json.loads(args.out.read_text()) if args.out and args.out.is_file() and not (
        args.only or args.kind) else {}
    if known and known['seed'] != args.seed:
        parser.error(f'{args.out} is of another seed')
    numbers = args.only or [*again(known), *range(known.get('cases', 0), args.cases)]
    if args.kind:
        numbers = [number for number in numbers if ROUND[number % len(ROUND)] == args.kind]
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace((args.folder or Path(folder)).resolve())
        workspace.prepare()
        started = time.time()
        verdicts = []
        try:
            for number in numbers:
                kind = ROUND[number % len(ROUND)]
                verdict = run_case(kind, KINDS[kind], args.seed, number, workspace)
                verdicts.append(verdict)
                if args.verbose or verdict.faults:
                    tell(verdict, args.verbose)
        except KeyboardInterrupt:
            print(f'Ended before case {number}; what follows is of the cases before it.')
    known = without(known, {each.number for each in verdicts})
    found = added(known, summary(verdicts, args.seed, time.time() - started)) if verdicts else known
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + '\n')


def tell(verdict: Verdict, whole: bool) -> None:
    """Print what became of a case."""
    print(f'{verdict.number} {verdict.kind}: {verdict.what}\n    {verdict.ending.kind} in '
          f'{verdict.ending.seconds:.1f} s: {verdict.ending.message}', flush=True)
    for fault in verdict.faults:
        print(f'    FAULT {fault}', flush=True)
    if whole and verdict.ending.kind not in ('result', 'refused'):
        print(verdict.ending.output[-3000:])


def summary(verdicts: list[Verdict], seed: int, seconds: float) -> dict:
    """Return counts by kind of case and ending, and the cases with faults."""
    return dict(
        seed=seed, cases=len(verdicts), seconds=round(seconds),
        changed_key_named={kind: sum(each.precise for each in verdicts if each.kind == kind
                                     and each.ending.kind == 'refused') for kind in ('config', 'other')},
        endings={kind: dict(sorted(Counter(each.ending.kind for each in verdicts if each.kind == kind).items()))
                 for kind in dict.fromkeys(each.kind for each in verdicts)},
        faults=[dict(number=each.number, kind=each.kind, what=each.what, faults=each.faults, ending=each.ending.kind,
                     precise=each.precise) for each in verdicts if each.faults])


def again(known: dict) -> list[int]:
    """Return the numbers of the cases that had faults."""
    return [each['number'] for each in known.get('faults', ())]


def without(known: dict, numbers: set[int]) -> dict:
    """Return counts without those of cases that had faults and were run again."""
    known = copy.deepcopy(known)
    for case in [each for each in known.get('faults', ()) if each['number'] in numbers]:
        known['faults'].remove(case)
        known['cases'] -= 1
        known['endings'][case['kind']][case['ending']] -= 1
        if case['kind'] in known['changed_key_named'] and case['ending'] == 'refused':
            known['changed_key_named'][case['kind']] -= case['precise']
    return known


def added(known: dict, new: dict) -> dict:
    """Return what two runs over different cases found together: counts are added, lists joined."""
    found = dict(known)
    for key, value in new.items():
        if isinstance(value, dict):
            found[key] = added(known.get(key, {}), value)
        else:
            found[key] = value if key not in known or key == 'seed' else known[key] + value
    return found


if __name__ == '__main__':
    main()
