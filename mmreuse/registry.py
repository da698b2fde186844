"""All registries of mmreuse: children of mmengine's, scope ``mmreuse``.

Two kinds of component exist. Classes are built as everywhere in OpenMMLab. Plain
functions (similarities, proxies, matchers, ...) are built by :func:`bind_function`,
which binds a config's keywords and hands back a callable, so that adding a method
takes one decorated function.
"""
from functools import partial
from typing import Any, Callable

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

SCOPE = 'mmreuse'


def bind_function(cfg: dict, registry: Registry, **defaults: Any) -> Callable:
    """Bind the keywords of ``cfg`` to the registered function ``cfg['type']``.

    Args:
        cfg: ``dict(type=NAME, **keywords)``.
        registry: The registry that holds the function.
        **defaults: Keywords used where ``cfg`` gives none.

    Returns:
        Callable: ``functools.partial`` of the function.

    Raises:
        KeyError: No function of that name is registered.
    """
    keywords = {**defaults, **cfg}
    name = keywords.pop('type')
    function = name if callable(name) else registry.get(name)
    if function is None:
        known = ', '.join(sorted(registry.module_dict))
        raise KeyError(f"{registry.name} '{name}' is not registered. Known: {known}")
    return partial(function, **keywords)


RUNNERS = Registry('runner', parent=MMENGINE_RUNNERS, scope=SCOPE, locations=['mmreuse.engine.runners'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope=SCOPE, locations=['mmreuse.engine'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope=SCOPE, locations=['mmreuse.engine.hooks'])
MODELS = Registry('model', parent=MMENGINE_MODELS, scope=SCOPE, locations=['mmreuse.models'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope=SCOPE, locations=['mmreuse.datasets'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope=SCOPE, locations=['mmreuse.datasets.transforms'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope=SCOPE, locations=['mmreuse.evaluation'])

SIMILARITIES = Registry(
    'similarity', build_func=bind_function, scope=SCOPE, locations=['mmreuse.reassembly.similarities'])
PROXIES = Registry('proxy', build_func=bind_function, scope=SCOPE, locations=['mmreuse.reassembly.proxies'])
