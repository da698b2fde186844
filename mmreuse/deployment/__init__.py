"""Networks outside PyTorch: export, inference engines, latency."""
from mmreuse.deployment.engines import deepsparse, onnxruntime, openvino, pytorch
from mmreuse.deployment.export import check_outputs, export_onnx
from mmreuse.deployment.latency import compare_latency

__all__ = [
    'check_outputs', 'compare_latency', 'deepsparse', 'export_onnx', 'onnxruntime', 'openvino', 'pytorch',
]
