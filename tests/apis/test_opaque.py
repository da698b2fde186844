"""Networks that hide their operations are refused by every job, with what to give instead."""
import pytest
import torch
from torch import nn

from mmreuse.apis import merge, modularize
from mmreuse.errors import TraceError
from mmreuse.merging import align
from mmreuse.modularization import compact
from mmreuse.pruning import prune_channels

IMAGES, LABELS = torch.rand(8, 3, 8, 8), torch.arange(8) % 2
JOBS = {
    'merge': lambda net: merge([net, net], IMAGES),
    'align': lambda net: align([net, net], None, 'weight_matching', inputs=IMAGES[:1]),
    'channels': lambda net: prune_channels(net, IMAGES[:1], 0.5),
    'modularize': lambda net: modularize(net, (IMAGES, LABELS), [1]),
    'compact': lambda net: compact(net, IMAGES[:1]),
}


@pytest.mark.parametrize('job', JOBS)
def test_every_job_says_what_to_give_instead(job):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)).eval()
    with pytest.raises(TraceError, match='(?s)hides its operations: give `model._orig_mod`'):
        JOBS[job](torch.compile(net))
    with pytest.raises(TraceError, match='hides its operations: give the network it was made of'):
        JOBS[job](torch.jit.script(net))
