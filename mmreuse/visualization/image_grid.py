"""Rows of generated images."""
from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from mmreuse.visualization.panels import panels


def draw_image_rows(rows: Mapping[str, Tensor], *, title: str = '') -> Figure:
    """Draw one row of images for each name; a row that has fewer images leaves places empty.

    Args:
        rows: (N, 3, H, W) from -1 to 1, by name. Values beyond are clipped.
        title: Above the figure.

    Returns:
        Figure: Pixels are drawn as squares.
    """
    columns = max(len(images) for images in rows.values())
    height, width = next(iter(rows.values())).shape[-2:]
    figure, grid = panels(rows, 1.2 + 1.1 * columns, 0.4 + 1.15 * height / width * len(rows), len(rows), columns)
    for axes in grid.flat:
        axes.set_axis_off()
    for (name, images), places in zip(rows.items(), grid, strict=True):
        for image, axes in zip(images.detach().cpu(), places, strict=False):
            axes.imshow((image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy(), interpolation='nearest')
        places[0].text(-0.08, 0.5, name, transform=places[0].transAxes, ha='right', va='center', fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure
