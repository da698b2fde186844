"""Find the results of a run by its config, so that no other config has to know the names of its files."""
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.utils.configs.files import read_config
from mmreuse.utils.files.io import PathLike

#: Of addresses such as ``result://configs/dery/net.py``.
SCHEME = 'result://'
NETWORK_FILE = 'network.safetensors'


def result_of(config: PathLike, options: Mapping[str, Any] | None = None, *, run: str = '',
              net: str | None = None) -> Path:
    """Return the network that a config's run left: its network file, or else its best or last checkpoint.

    Args:
        config: Path of the config. Its run is in the ``work_dir`` that it names, or else in ``work_dirs/<its name>``.
        options: Dotted key to value, over the config.
        run: The folder in there, of one run of several.
        net: Of a run that trains several networks: which, such as ``'net1'``.

    Raises:
        ConfigError: The config cannot be read.
        ArtefactError: There is no result yet.
    """
    cfg = read_config(config, options)
    folder = Path(cfg.get('work_dir') or Path('work_dirs', Path(config).stem), run)
    if net is not None:
        candidates = sorted(folder.glob(f'{net}_epoch_*.pth'), key=_epoch, reverse=True)
    else:
        jobs = [folder / cfg.job.type / NETWORK_FILE] if cfg.get('job') else []
        best = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime, reverse=True)
        candidates = [folder / NETWORK_FILE, *jobs, *best, *filter(None, [last_checkpoint(folder)])]
    for path in candidates:
        if path.is_file():
            return path
    raise ArtefactError(f'{config}: its run has left no network in {folder}. Run it first (python tools/train.py '
                        f'{config}), or give checkpoint=PATH.')


def last_checkpoint(folder: PathLike) -> Path | None:
    """Return the checkpoint that a run's ``last_checkpoint`` names; None where it names none.

    It names it by its path when it was written. Where nothing is there, as the folder was moved or copied, that is the
    file of the same name in the folder.
    """
    pointer = Path(folder) / 'last_checkpoint'
    text = pointer.read_text(encoding='utf-8', errors='replace').strip() if pointer.is_file() else ''
    named = Path(text)
    if not named.name or '\0' in text:
        return None
    moved = Path(folder) / named.name
    return moved if not named.exists() and moved.is_file() else named


def find_result(address: str) -> Path:
    """Return the file that an address of a result means.

    Args:
        address: ``result://CONFIG``, with ``?key=value`` for options of the config and ``#net1`` for one of several
            networks, as in ``result://configs/pair.py?split_seed=1#net1``.

    Raises:
        ConfigError: There is no such config.
        ArtefactError: Its run has left nothing yet.
    """
    parts = urlsplit(address.removeprefix(SCHEME))
    options = {key: int(value) if value.isdecimal() else value for key, value in parse_qsl(parts.query)}
    if not parts.path:
        raise ConfigError(f"'{address}' names no config: write {SCHEME}configs/NAME.py.")
    return result_of(parts.path, options, net=parts.fragment or None)


def with_results(value: Any) -> Any:
    """Return a value of a config with files in place of the addresses of results.

    Initial weights (``init_cfg``) stay addresses, which are looked up when they are loaded.

    Raises:
        ConfigError, ArtefactError: As :func:`find_result`.
    """
    if isinstance(value, str):
        return str(find_result(value)) if value.startswith(SCHEME) else value
    if isinstance(value, Mapping):
        return {key: each if key == 'init_cfg' else with_results(each) for key, each in value.items()}
    return type(value)(map(with_results, value)) if isinstance(value, list | tuple) else value


def _epoch(path: Path) -> int:
    return int(re.findall(r'\d+', path.stem)[-1])
