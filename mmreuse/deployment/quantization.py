"""Networks in integers of 8 bits: weights rounded, biases corrected, activations by their ranges on images."""
import logging
import platform
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from mmreuse.calibration import Source, calibrate
from mmreuse.deployment.export import export_onnx
from mmreuse.deployment.latency import time_processes
from mmreuse.deployment.onnx_notes import write_notes
from mmreuse.deployment.process import EngineProcess, require
from mmreuse.deployment.rounding import LEVELS, round_weights
from mmreuse.errors import ConfigError
from mmreuse.graph import copy_model
from mmreuse.networks import open_network, record_edit, record_of
from mmreuse.networks.references import Reference
from mmreuse.statistics.data import Data
from mmreuse.statistics.passes import image_batches
from mmreuse.utils.cost.complexity import count_macs, count_params
from mmreuse.utils.cost.latency import Latency
from mmreuse.utils.files.atomic import atomic_path
from mmreuse.utils.names import refuse_other
from mmreuse.utils.tables import Rows, Tabular

#: Penalty, over the inputs' variance, at which a regression leaves weights as they are and solves for biases alone.
_BIASES_ALONE = 1e8
#: Images that pass through a network at once while ranges are measured.
_BATCH = 16
#: Engines that run ONNX files.
_ENGINES = ('onnxruntime', 'openvino', 'deepsparse')


@dataclass(frozen=True)
class Compared:
    """A network in both precisions on one engine, for a number of images at once."""
    engine: str
    batch: int
    float32: Latency
    int8: Latency
    agreement: float  # percent of the calibration images for which both predict the same

    def __str__(self) -> str:
        images = f'{self.batch} image{"s" * (self.batch > 1)}'
        return (f'{self.engine}, {images}: {1e3 * self.int8.median:.3f} ms, in float32 '
                f'{1e3 * self.float32.median:.3f} ms')


@dataclass(frozen=True)
class Quantization(Tabular):
    """What integers of 8 bits made of a network.

    Attributes:
        path: The ONNX file.
        bytes: Of the ONNX files in float32 and in int8.
        compared: By engine and number of images.
    """
    path: Path
    bytes: tuple[int, int]
    compared: Sequence[Compared]

    def rows(self) -> Rows:
        """Return one row for each engine and number of images."""
        return [dict(engine=each.engine, images=each.batch, float32_ms=1e3 * each.float32.median,
                     int8_ms=1e3 * each.int8.median, times_as_fast=each.float32.median / each.int8.median,
                     agreement=each.agreement) for each in self.compared]

    def notes(self) -> Sequence[str]:
        """Compare the sizes of the files."""
        return ['{}: {:,} bytes, in float32 {:,}'.format(self.path, *reversed(self.bytes))]


def quantize(network: Reference, path: str | Path, images: Data | None, *, samples: int | None = None,
             correct: bool = True, engines: Sequence[str] = ('onnxruntime', 'openvino'),
             batches: Sequence[int] = (1, 16), threads: int = 1, rounds: int = 20,
             slower: bool = False) -> tuple[nn.Module, Quantization]:
    """Write a network as an ONNX file that computes with integers of 8 bits, and compare it with the network.

    ::

        rounded, result = quantize('small.safetensors', 'small_int8.onnx', images)
        print(result)       # milliseconds on each engine beside those of float32

    Weights are rounded to 255 values for each output channel. Then the biases of each layer, in the order in which they
    run, are solved for anew, so that rounding shifts no layer's mean (:func:`mmreuse.calibration.calibrate`).
    Activations get the ranges that they have on the images. The file has pairs of QuantizeLinear and DequantizeLinear,
    which ONNX Runtime, OpenVINO and others replace by integer arithmetic.

    Args:
        network: Or its file; left as it is.
        path: The ONNX file.
        images: For ranges and biases, see :func:`mmreuse.statistics.data.batches`; some hundred, labels are not used.
        samples: How many of them; None for all.
        correct: Solve for biases.
        engines: On which it is timed and compared.
        batches: Numbers of images that are timed.
        threads: That an engine may use.
        rounds: In which float32 and int8 take turns.
        slower: Write the file even if it is faster on none of the engines.

    Returns:
        tuple: The network with rounded weights and corrected biases, in float32; and what was measured.

    Raises:
        ConfigError: There are no images, an engine or a package is missing, or int8 gains nothing on this processor.
        ArtefactError: The network cannot be exported; the operator is named.
        DataError: There are too few images.
    """
    if images is None:
        raise ConfigError('int8 needs calibration images, which say what ranges activations have. Give some hundred, '
                          'of the kind that the network will see; labels are not used.')
    check_engines(engines)
    network, tools = open_network(network), _tools()
    calibration = torch.cat([each for each, in image_batches(images, [network], samples, 'calibration images')])
    levels = LEVELS // 2 + 1 if _saturates() else LEVELS
    rounded = round_network(network, calibration, levels, correct)
    with TemporaryDirectory() as folder, atomic_path(path) as file:
        number, integer = Path(folder, 'float32.onnx'), Path(folder, 'rounded.onnx')
        export_onnx(network, calibration[:2], number)
        export_onnx(rounded, calibration[:2], integer)
        _write(tools, integer, file, calibration, levels)
        write_notes(file, dict(params=count_params(network), macs=count_macs(network, calibration[:1]),
                               classes=list(record_of(network).classes)))
        compared = [_compare(engine, number, file, calibration, batch, threads, rounds)
                    for engine in engines for batch in batches]
        if not slower:
            refuse_without_gain(compared)
        found = Quantization(Path(path), (number.stat().st_size, file.stat().st_size), compared)
    return rounded, found


def check_engines(engines: Sequence[str]) -> None:
    """Raise :class:`ConfigError` where an engine does not run ONNX files, or is not installed."""
    for engine in engines:
        refuse_other('int8: engine', engine, _ENGINES)
        require(engine)


def round_network(network: nn.Module, images: Tensor, levels: int = LEVELS, correct: bool = True) -> nn.Module:
    """Return a copy with rounded weights, and biases that make up for that.

    Args:
        network: Any that can be recorded.
        images: (N, ...), prepared.
        levels: See :func:`~mmreuse.deployment.rounding.round_weights`.
        correct: Solve for biases.
    """
    rounded = copy_model(network).eval()
    round_weights(rounded, levels)
    if correct:
        calibrate(rounded, [Source(network)], [images], ridge=_BIASES_ALONE)
        round_weights(rounded, levels)  # which are off by less than a millionth of a step
    return record_edit(rounded, 'round', [network], inputs=images[:1], levels=levels)


def refuse_without_gain(compared: Sequence[Compared]) -> None:
    """Raise :class:`ConfigError` unless int8 is faster somewhere."""
    if compared and all(each.int8.median >= each.float32.median for each in compared):
        raise ConfigError(f'int8 gains nothing on this processor ({"; ".join(map(str, compared))}), so that it was not '
                          'written. Keep float32, or write it for another processor with slower=True.')


def _compare(engine: str, number: Path, integer: Path, images: Tensor, batch: int, threads: int,
             rounds: int) -> Compared:
    first = [images[torch.arange(batch) % len(images)].cpu().numpy()]
    with closing(EngineProcess(engine, number, first, threads)) as one, \
            closing(EngineProcess(engine, integer, first, threads)) as other:
        latency = time_processes(dict(float32=one, int8=other), rounds=rounds)
        classes = [each.over(images.cpu().numpy()).argmax(-1) for each in (one, other)]
    return Compared(engine, batch, **latency, agreement=100 * float((classes[0] == classes[1]).mean()))


def _write(tools: object, source: Path, file: Path, images: Tensor, levels: int) -> None:
    """Put a float32 file's integers and ranges into another one."""
    prepared = source.with_name('prepared.onnx')
    root = logging.getLogger()
    level, _ = root.level, root.setLevel(logging.ERROR)
    try:
        import_module('onnxruntime.quantization.shape_inference').quant_pre_process(
            str(source), str(prepared), skip_symbolic_shape=True)
        tools.quantize_static(
            str(prepared), str(file), _reader(tools, images), per_channel=True, reduce_range=levels < LEVELS,
            activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QInt8)
    finally:
        root.setLevel(level)


def _reader(tools: object, images: Tensor) -> object:
    """Return images as ONNX Runtime's quantization asks for them."""
    parts = iter(images.cpu().split(_BATCH))

    class Reader(tools.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            part = next(parts, None)
            return None if part is None else {'input': part.numpy()}  # as `export_onnx` calls the only one

    return Reader()


def _tools() -> object:
    """Return ONNX Runtime's package of quantization."""
    try:
        return import_module('onnxruntime.quantization')
    except ImportError as error:
        raise ConfigError(f'int8 needs onnxruntime and a current onnx ({error}): pip install onnxruntime "onnx>=1.19"'
                          ) from error


def _saturates() -> bool:
    """Return whether this processor's sums of two products of 8 bits can be too large for 16 bits.

    x86 without VNNI adds them up so; with weights of 7 bits they fit.
    """
    try:
        return platform.machine() == 'x86_64' and 'vnni' not in Path('/proc/cpuinfo').read_text()
    except OSError:
        return False
