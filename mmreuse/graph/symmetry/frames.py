"""Frames: coordinates in which the features of traced values are written.

Beside its atoms every value of a run carries the number of a frame. A layer that writes features opens a frame; what is
linear in the features stays in it or joins frames; everything else limits what may be done to a frame. A *scale*
multiplies each feature by a positive number, a *rotation* is any orthogonal map. Together they are all invertible maps.
"""
from dataclasses import dataclass

from torch import Tensor

from mmreuse.graph.spaces.atoms import narrow

ROTATE, SCALE = 1, 2
ANY = ROTATE | SCALE


@dataclass(frozen=True, eq=False)
class Link:
    """What an operation says of the frame of some atoms, or of two frames."""
    frame: int
    ids: Tensor  # narrowed, as they were when the operation ran
    allowed: int  # ROTATE, SCALE, both or none
    other: int = 0  # frame in which the same features stand; 0: none
    other_ids: Tensor | None = None
    dual: bool = False  # in the other frame the inverse transpose acts: features that meet in products
    centred: bool = False  # rotations must keep the direction of all ones
    factor: bool = False  # a parameter of one number per feature is multiplied


class Frames:
    """All frames of one trace and the links among them."""

    def __init__(self) -> None:
        self.count = 0
        self.links: list[Link] = []

    def fresh(self) -> int:
        """Return the number of a new frame."""
        self.count += 1
        return self.count

    def limit(self, frame: int, ids: Tensor, allowed: int, factor: bool = False) -> None:
        """Say what may be done to these atoms in a frame."""
        if frame and bool(ids.any()):
            self.links.append(Link(frame, narrow(ids), allowed, factor=factor))

    def join(self, frame: int, ids: Tensor, other: int, other_ids: Tensor, allowed: int = ANY, *, dual: bool = False,
             centred: bool = False) -> None:
        """Say that the same map acts in two frames."""
        if frame and other and bool(ids.any()) and bool(other_ids.any()):
            self.links.append(Link(frame, narrow(ids), allowed, other, narrow(other_ids), dual, centred))
