"""Any network as feature spaces that can be mapped, measured and cut."""
from mmreuse.graph.copying import adopt, copy_model, fresh_copy, refresh
from mmreuse.graph.maps.axis_plan import AxisPlan, plan_axis
from mmreuse.graph.maps.linear_maps import Assign, Dense, Permute, Scale, Select, SpaceMap
from mmreuse.graph.maps.narrow_attention import NarrowAttention, fit_attention
from mmreuse.graph.maps.resolve_maps import ResolvedMap, resolve_maps
from mmreuse.graph.maps.transform import apply_maps, transform
from mmreuse.graph.program.capture import capture
from mmreuse.graph.program.cut import CutPoint, cut, cut_across, cut_points, endpoints, find_call, slice_block
from mmreuse.graph.program.cut_interface import CrossingTensor, carried
from mmreuse.graph.program.emit import Call, GraphModule, Program
from mmreuse.graph.program.liveness import Layout, guess_layout, live_after
from mmreuse.graph.program.nodes import sequence_of_nodes
from mmreuse.graph.program.recording import Recording, record
from mmreuse.graph.program.sequential_block import Chain, Size, SizedChain
from mmreuse.graph.proof.doubles import as_double, run_in_double
from mmreuse.graph.proof.repair import repaired, verified, verified_each
from mmreuse.graph.proof.verify import VerifyReport
from mmreuse.graph.spaces.derive import Axis, FeatureSpace
from mmreuse.graph.spaces.operations import DECOMPOSITIONS, SILENT, plain_name
from mmreuse.graph.spaces.taps import Tap, operations_shown
from mmreuse.graph.symmetry.balance import rows_of
from mmreuse.graph.symmetry.canonicalize import canonicalize
from mmreuse.graph.symmetry.random_maps import random_maps, without_mean
from mmreuse.graph.traced_model import Held, TracedModel
from mmreuse.graph.tracing import trace
from mmreuse.graph.values import as_positional, frozen_random, map_tensors, random_like, tensors_in, tensors_within

__all__ = [
    'Assign', 'Axis', 'AxisPlan', 'Call', 'Chain', 'CrossingTensor', 'CutPoint', 'DECOMPOSITIONS', 'Dense',
    'FeatureSpace', 'GraphModule', 'Held', 'Layout', 'NarrowAttention', 'Permute', 'Program', 'Recording',
    'ResolvedMap', 'SILENT', 'Scale', 'Select', 'Size', 'SizedChain', 'SpaceMap', 'Tap', 'TracedModel', 'VerifyReport',
    'adopt', 'apply_maps', 'as_double', 'as_positional', 'canonicalize', 'capture', 'carried', 'copy_model', 'cut',
    'cut_across', 'cut_points', 'endpoints', 'find_call', 'fit_attention', 'fresh_copy', 'frozen_random',
    'guess_layout', 'live_after', 'map_tensors', 'operations_shown', 'plain_name', 'plan_axis', 'random_like',
    'random_maps', 'record', 'refresh', 'repaired', 'resolve_maps', 'rows_of', 'run_in_double', 'sequence_of_nodes',
    'slice_block', 'tensors_in', 'tensors_within', 'trace', 'transform', 'verified', 'verified_each', 'without_mean',
]
