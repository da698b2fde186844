"""Random numbers of one's own."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device | str = 'cpu') -> Iterator[None]:
    """Draw PyTorch's random numbers from a seed in the block, and leave the global generators as they were.

    For code that cannot be given a generator, such as dropout.

    Args:
        seed: Of the block.
        device: Where it draws beside the CPU.
    """
    own = [torch.device(device)] if torch.device(device).type == 'cuda' else []
    with torch.random.fork_rng(own):
        # torch.manual_seed would seed every device, also those that are not restored.
        torch.default_generator.manual_seed(seed)
        for each in own:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield
