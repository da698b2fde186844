"""Networks outside PyTorch: export, inference engines, int8, latency."""
from mmreuse.deployment.engines import deepsparse, onnxruntime, openvino, pytorch
from mmreuse.deployment.export import check_outputs, export_onnx
from mmreuse.deployment.latency import compare_latency
from mmreuse.deployment.latency_budget import LatencyCost
from mmreuse.deployment.quantization import Quantization, quantize

__all__ = [
    'LatencyCost', 'Quantization', 'check_outputs', 'compare_latency', 'deepsparse', 'export_onnx', 'onnxruntime',
    'openvino', 'pytorch', 'quantize',
]
