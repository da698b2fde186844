"""Matrix products that keep the precision of their operands."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device_type: str = 'cpu') -> Iterator[None]:
    """Switch off what lowers the precision of float32 products in the block: autocast, TF32, bfloat16 passes.

    Args:
        device_type: Where the products run (``tensor.device.type``).
    """
    with torch.autocast(device_type, enabled=False):
        if not hasattr(torch.backends.cuda.matmul, 'fp32_precision'):  # torch < 2.9
            allowed = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision('highest')
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(allowed)
            return
        # One switch per backend: the joint one refuses to be read once a user has set one of these.
        backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
        allowed_each = [backend.fp32_precision for backend in backends]
        for backend in backends:
            backend.fp32_precision = 'ieee'
        try:
            yield
        finally:
            for backend, previous in zip(backends, allowed_each, strict=True):
                backend.fp32_precision = previous
