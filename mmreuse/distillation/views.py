"""Images in a few fixed variants, so that whoever is asked about them need be asked only once."""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from mmreuse.errors import ConfigError

#: From the numbers of images and of their views, and the views themselves, to scores (B, K, C).
Goals = Callable[[Tensor, Tensor, Tensor], Tensor]


class Views:
    """Images as they are and, as further views, moved by up to an eighth of their sides and flipped half of the time.

    The usual augmentation of small pictures, drawn once: a view is the same whenever it is taken.

    Args:
        images: (N, C, H, W), prepared; with ``count=1`` of any shape (N, ...).
        count: Views of each image, the image itself among them.
        seed: Of shifts and flips.

    Raises:
        ConfigError: There is to be no view, or what has no two sides is to be moved.
    """

    def __init__(self, images: Tensor, count: int = 1, seed: int = 0) -> None:
        if count < 1 or count > 1 and images.dim() != 4:
            raise ConfigError(f'views={count}: at least 1, the image itself; more than that only of images (N, C, H, W)'
                              f', and these are {tuple(images.shape)}.')
        self.images, self.count = images, count
        generator = torch.Generator().manual_seed(seed)
        most = torch.tensor(images.shape[2:] if count > 1 else (0, 0)) // 8
        shares = torch.rand(len(images), count, 2, generator=generator)
        self.shifts = ((2 * most + 1) * shares).long() - most
        self.flips = torch.rand(len(images), count, generator=generator) < 0.5
        self.shifts[:, 0], self.flips[:, 0] = 0, False

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def take(self, places: Tensor, numbers: Tensor) -> Tensor:
        """Return views (B, ...); what a shift leaves empty is 0.

        Args:
            places: Of the images, (B,).
            numbers: Of their views, (B,).
        """
        images = self.images[places.to(self.images.device)]
        if self.count == 1:
            return images
        rows, columns = (self._line(shift, side) for shift, side in zip(
            self.shifts[places, numbers].T, images.shape[2:], strict=True))
        columns = torch.where(self.flips[places, numbers][:, None], columns.flip(1), columns)
        batch, channels = (torch.arange(size)[:, None, None, None].transpose(0, axis)
                           for axis, size in enumerate(images.shape[:2]))
        index = (batch, channels, rows[:, None, :, None], columns[:, None, None, :])
        margin = [side // 8 for side in reversed(images.shape[2:]) for _ in range(2)]
        return pad(images, margin)[tuple(each.to(images.device) for each in index)]

    @staticmethod
    def _line(shift: Tensor, side: int) -> Tensor:
        """Return the places (B, side) along one side of padded images."""
        return torch.arange(side) + side // 8 + shift[:, None]


class Known:
    """Scores that are computed when a view is first asked about, and then known.

    Args:
        ask: From images to scores (B, K, C).
        views: What will be asked about.
    """

    def __init__(self, ask: Callable[[Tensor], Tensor], views: Views) -> None:
        self.ask = ask
        self.known = torch.zeros(len(views), views.count, dtype=torch.bool)
        self.scores = torch.empty(0)

    @torch.no_grad()
    def __call__(self, places: Tensor, numbers: Tensor, images: Tensor) -> Tensor:
        """Return scores (B, K, C) of views."""
        new = ~self.known[places, numbers]
        if bool(new.any()):
            found = self.ask(images[new.to(images.device)])
            found = found.to(torch.promote_types(found.dtype, torch.float32))
            if not len(self.scores):
                self.scores = found.new_zeros(*self.known.shape, *found.shape[1:])
            self.scores[places[new], numbers[new]] = found
            self.known[places[new], numbers[new]] = True
        return self.scores[places, numbers]
