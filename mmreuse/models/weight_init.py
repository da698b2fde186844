"""``init_cfg=dict(type='Pretrained')`` that leaves nothing random."""
from mmengine.logging import MMLogger
from mmengine.model import PretrainedInit, update_init_info
from mmengine.runner import CheckpointLoader
from torch import nn

from mmreuse.errors import ArtefactError
from mmreuse.registry import WEIGHT_INITIALIZERS
from mmreuse.utils.files.state_fit import load_strictly, load_what_fits, weights_of
from mmreuse.utils.names import nearest


@WEIGHT_INITIALIZERS.register_module(name='Pretrained')
class StrictPretrainedInit(PretrainedInit):
    """mmengine's ``Pretrained``, which fails where the file does not fit the module.

    Args:
        checkpoint: File or address.
        prefix: Of the module's tensors in the file; the others are not needed then.
        map_location: As in ``torch.load``.
        strict: False: log what does not fit, and leave it as it is.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: str = 'cpu',
                 strict: bool = True) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.strict = strict

    def __call__(self, module: nn.Module) -> None:
        """Load.

        Raises:
            ArtefactError: The file has nothing under the prefix, or does not fit.
        """
        state = weights_of(CheckpointLoader.load_checkpoint(self.checkpoint, self.map_location), self.checkpoint)
        if self.prefix:
            prefix = self.prefix.removesuffix('.') + '.'
            found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
            if not found:
                raise ArtefactError(f"{self.checkpoint}: has no tensor under init_cfg.prefix = '{self.prefix}'. "
                                    + nearest(prefix, {name.split('.')[0] + '.' for name in state}))
            state = found
        if self.strict:
            load_strictly(module, state, self.checkpoint, remedy='Correct init_cfg.checkpoint or .prefix; '
                          'init_cfg.strict=False loads what fits and leaves the rest random.')
        else:
            load_what_fits(module, state, self.checkpoint, MMLogger.get_current_instance())
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())
