"""Small smooth problems, minimised to the end."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.enable_grad()
def minimised(objective: Callable[..., Tensor], start: Sequence[Tensor], steps: int = 100) -> list[Tensor]:
    """Return what L-BFGS with a strong Wolfe line search comes to.

    Args:
        objective: From tensors such as those of ``start`` to a number.
        start: Where the search starts; left as they are.
        steps: At most.
    """
    found = [each.detach().clone().requires_grad_() for each in start]
    optimizer = torch.optim.LBFGS(found, max_iter=steps, line_search_fn='strong_wolfe')

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = objective(*found)
        loss.backward()
        return loss

    optimizer.step(step)
    return [each.detach() for each in found]
