"""Loops other than mmengine's."""
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmreuse.registry import LOOPS


@LOOPS.register_module()
class MergeLoop(BaseLoop):
    """In place of training: hooks merge, the result is saved as the checkpoint of epoch 1, then validated.

    A run that is resumed is only validated.
    """

    max_epochs = max_iters = 1

    def __init__(self, runner: Runner, dataloader: DataLoader | dict) -> None:
        if isinstance(dataloader, dict):
            # The random draws of workers that stay would go on from one pass over the data to the next.
            dataloader = {**dataloader, 'persistent_workers': False}
        super().__init__(runner, dataloader)
        self._epoch = self._iter = 0

    @property
    def epoch(self) -> int:
        """1 once the models are merged."""
        return self._epoch

    @property
    def iter(self) -> int:
        """The same; mmengine asks for both."""
        return self._iter

    def run(self) -> nn.Module:
        """Merge, save, validate.

        Returns:
            nn.Module: The model.
        """
        self.runner.call_hook('before_train')
        if self._epoch == 0:
            self._iter = 1
            self.runner.call_hook('after_train_epoch')
            self._epoch = 1
        if self.runner.val_loop is not None:
            self.runner.val_loop.run()
        self.runner.call_hook('after_train')
        return self.runner.model
