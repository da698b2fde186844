"""The declaration of one trained network of a zoo."""
from dataclasses import dataclass, field
from typing import Any

from mmreuse.networks.content.tensors import BUFFER

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing that a network was trained with; mean and deviation of pixels in 0..1, in its channel order."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resize: int = 256  # short side before the crop
    crop: int = 224  # side of the centre crop
    interpolation: str = 'bilinear'
    to_rgb: bool = True  # False: channels in BGR order


@dataclass(frozen=True)
class ZooEntry:
    """One trained network."""
    key: str
    library: str  # 'timm', 'torchvision', 'mmpretrain', 'local' or 'network_file'
    model: str  # name in the library; for 'local' a registered name or an import path; path of a network file
    args: dict[str, Any] = field(default_factory=dict, hash=False)  # for the constructor
    weights: str | None = None  # tag of the library, URL, or file (relative to the data root)
    weights_hash: str | None = None  # 'sha256:' and at least 8 hexadecimal digits of the file's hash
    weights_prefix: str = ''  # only the file's keys that start so are read, without it
    weights_drop: tuple[str, ...] = ()  # beginnings of keys that neither side needs
    preprocess: Preprocess = Preprocess()
    nodes: tuple[str, ...] | None = None  # default: derived from the network, in execution order
    input_size: tuple[int, int, int] = (3, 224, 224)  # channels, height, width

    def drops(self, name: str) -> bool:
        """Return whether neither the file nor the network needs a tensor of this name."""
        # Buffers that no state dict has are set with the structure of a network file.
        return name.startswith((*self.weights_drop, BUFFER) if self.library == 'network_file' else self.weights_drop)
