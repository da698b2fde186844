"""Any network as feature spaces that can be mapped, measured and cut."""
from mmreuse.graph.capture import capture
from mmreuse.graph.carry import Carried, carried
from mmreuse.graph.chain import Chain, SizedChain
from mmreuse.graph.copying import copy_model
from mmreuse.graph.cut import CutPoint, cut, cut_across, cut_points, endpoints, slice_block
from mmreuse.graph.graph import Graph, Held, trace
from mmreuse.graph.maps import Assign, Dense, Permute, Select, SpaceMap
from mmreuse.graph.nodes import sequence_of_nodes
from mmreuse.graph.program import Program
from mmreuse.graph.repair import verified, verified_each
from mmreuse.graph.spaces import Axis, FeatureSpace
from mmreuse.graph.taps import Tap
from mmreuse.graph.transform import transform
from mmreuse.graph.verify import VerifyReport

__all__ = [
    'Assign', 'Axis', 'Carried', 'Chain', 'CutPoint', 'Dense', 'FeatureSpace', 'Graph', 'Held', 'Permute',
    'Program', 'Select', 'SizedChain', 'SpaceMap', 'Tap', 'VerifyReport', 'capture', 'carried', 'copy_model', 'cut',
    'cut_across', 'cut_points', 'endpoints', 'sequence_of_nodes', 'slice_block', 'trace', 'transform', 'verified',
    'verified_each',
]
