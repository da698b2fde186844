"""Memory of a calibration: the values of how many images are held at once."""
import torch

from mmreuse.calibration.walk import Walk
from mmreuse.errors import ConfigError
from mmreuse.utils.cost.memory import available_memory, require_memory

#: Of what is free, where no limit is given.
_SHARE = 0.8
#: Matrices as large as the second moments of a layer's inputs, in float64: two sums, their centred form, and what
#: solving makes of it.
_MATRICES = 6


def assign_memory(walk: Walk, limit: float | None) -> None:
    """Say how much memory a calibration takes, and give its networks room for the values of all images.

    Args:
        walk: Not begun.
        limit: Bytes, or a share in (0, 1] of what is free; None for most of it.

    Raises:
        ConfigError: The images alone, or a single batch, take more.
    """
    count, batch = walk.images.own, max(map(len, walk.images.batches))
    device = walk.images.batches[0].device
    free = torch.cuda.mem_get_info(device)[0] if device.type == 'cuda' else available_memory()
    share = _SHARE if limit is None else limit
    allowed = limit if limit is not None and limit > 1 else float('inf') if free is None else share * free
    fixed = working_bytes(walk, batch)
    room = (allowed - fixed) / count / len(walk.runs)
    if sum(max(run.live) for run in walk.runs) > room * len(walk.runs):
        walk.rooms = [room] * len(walk.runs)
    needed = fixed + count * sum(run.peak(room) for run, room in zip(walk.runs, walk.rooms, strict=True))
    if needed > allowed:
        raise ConfigError(f'calibration of {count} images: needs at least {needed / 2**20:.0f} MiB, more than the '
                          f'{allowed / 2**20:.0f} MiB allowed. Use fewer samples, or raise `memory_limit`.')
    if device.type == 'cpu':
        require_memory(int(needed), f'calibration of {count} images', 'Use fewer samples.')


def working_bytes(walk: Walk, batch: int) -> float:
    """Return the bytes of one batch on its way through all networks, and of the largest layer's moments."""
    layers = [problem.fitted for problem in walk.problems]
    moments = max((8 * each.groups * each.inputs * (_MATRICES * each.inputs + 4 * each.outputs) for each in layers),
                  default=0)
    return 2 * batch * sum(max(run.live) for run in walk.runs) + moments
