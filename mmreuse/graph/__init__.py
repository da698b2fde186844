"""Any network as feature spaces that can be mapped, measured and cut."""
from mmreuse.graph.copying import copy_model
from mmreuse.graph.graph import Held, TracedModel, trace
from mmreuse.graph.maps.linear_maps import Assign, Dense, Permute, Select, SpaceMap
from mmreuse.graph.maps.transform import transform
from mmreuse.graph.program.capture import capture
from mmreuse.graph.program.cut import CutPoint, cut, cut_across, cut_points, endpoints, slice_block
from mmreuse.graph.program.cut_interface import CrossingTensor, carried
from mmreuse.graph.program.emit import Program
from mmreuse.graph.program.nodes import sequence_of_nodes
from mmreuse.graph.program.sequential_block import Chain, SizedChain
from mmreuse.graph.proof.repair import verified, verified_each
from mmreuse.graph.proof.verify import VerifyReport
from mmreuse.graph.spaces.derive import Axis, FeatureSpace
from mmreuse.graph.spaces.taps import Tap

__all__ = [
    'Assign', 'Axis', 'CrossingTensor', 'Chain', 'CutPoint', 'Dense', 'FeatureSpace', 'TracedModel', 'Held', 'Permute',
    'Program', 'Select', 'SizedChain', 'SpaceMap', 'Tap', 'VerifyReport', 'capture', 'carried', 'copy_model', 'cut',
    'cut_across', 'cut_points', 'endpoints', 'sequence_of_nodes', 'slice_block', 'trace', 'transform', 'verified',
    'verified_each',
]
