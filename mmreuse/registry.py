"""All registries of mmreuse: children of mmengine's, scope ``mmreuse``.

Two kinds of component exist. Classes are built as everywhere in OpenMMLab. Plain
functions (similarities, proxies, matchers, ...) are built by :func:`bind_function`,
which binds a config's keywords and hands back a callable, so that adding a method
takes one decorated function.
"""
from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine import registry as root
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
    registry.import_from_location()
    function = name if callable(name) else registry.module_dict.get(name)
    if function is None and '.' in name:
        function = registry.get(name)  # of another scope; an unknown bare name it would take for a module to import
    if not callable(function):
        known = ', '.join(sorted(registry.module_dict))
        raise KeyError(f"{registry.name} '{name}' is not registered. Known: {known}")
    return partial(function, **keywords)


class BorrowingRegistry(Registry):
    """Finds mmpretrain's components by their bare names too.

    mmpretrain's classes build parts of their own by bare name (``LinearClsHead`` its ``CrossEntropyLoss``),
    in the scope that is the default. Configs write the scope of what they borrow all the same.
    """

    def get(self, key: str) -> type | None:
        """Look ``key`` up here and above, then in mmpretrain."""
        found = super().get(key)
        if found is None and '.' not in key:
            found = super().get(f'mmpretrain.{key}')
        return found


RUNNERS = Registry('runner', parent=root.RUNNERS, scope=SCOPE, locations=['mmreuse.engine.runners'])
LOOPS = Registry('loop', parent=root.LOOPS, scope=SCOPE, locations=['mmreuse.engine'])
HOOKS = Registry('hook', parent=root.HOOKS, scope=SCOPE, locations=['mmreuse.engine.hooks'])
OPTIM_WRAPPERS = Registry(
    'optim_wrapper', parent=root.OPTIM_WRAPPERS, scope=SCOPE, locations=['mmreuse.engine.optim_wrapper'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', parent=root.OPTIM_WRAPPER_CONSTRUCTORS, scope=SCOPE,
    locations=['mmreuse.engine.optim_wrapper'])
MODELS = BorrowingRegistry('model', parent=root.MODELS, scope=SCOPE, locations=['mmreuse.models'])
DATASETS = BorrowingRegistry('dataset', parent=root.DATASETS, scope=SCOPE, locations=['mmreuse.datasets'])
TRANSFORMS = BorrowingRegistry(
    'transform', parent=root.TRANSFORMS, scope=SCOPE, locations=['mmreuse.datasets.transforms'])
DATA_SAMPLERS = Registry(
    'data sampler', parent=root.DATA_SAMPLERS, scope=SCOPE, locations=['mmreuse.datasets.samplers'])
METRICS = BorrowingRegistry('metric', parent=root.METRICS, scope=SCOPE, locations=['mmreuse.evaluation'])
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=root.WEIGHT_INITIALIZERS, scope=SCOPE, locations=['mmreuse.models.weight_init'])

# Nothing of ours is in these. They exist because under ``default_scope='mmreuse'`` mmengine looks here first, and
# warns when there is no child to look in.
INHERITED = tuple(
    Registry(parent.name, parent=parent, scope=SCOPE)
    for parent in (root.EVALUATOR, root.INFERENCERS, root.LOG_PROCESSORS, root.MODEL_WRAPPERS, root.OPTIMIZERS,
                   root.PARAM_SCHEDULERS, root.VISBACKENDS, root.VISUALIZERS))

SIMILARITIES = Registry(
    'similarity', build_func=bind_function, scope=SCOPE, locations=['mmreuse.reassembly.similarity.similarities'])
PROXIES = Registry('proxy', build_func=bind_function, scope=SCOPE, locations=['mmreuse.reassembly.search.proxies'])
MATCHERS = Registry('matcher', build_func=bind_function, scope=SCOPE, locations=['mmreuse.merging.matchers'])
RENORMALIZERS = Registry('renormalizer', build_func=bind_function, scope=SCOPE, locations=['mmreuse.renormalization'])
SALIENCIES = Registry('saliency', build_func=bind_function, scope=SCOPE, locations=['mmreuse.pruning.saliencies'])
ATTACKS = Registry('attack', build_func=bind_function, scope=SCOPE, locations=['mmreuse.robustness.attacks'])
ENGINES = Registry('engine', build_func=bind_function, scope=SCOPE, locations=['mmreuse.deployment.engines'])
JOBS = Registry('job', build_func=bind_function, scope=SCOPE, locations=['mmreuse.engine.jobs'])
BASES = Registry('base', scope=SCOPE, locations=['mmreuse.networks.bases'])
EDITS = Registry(
    'edit', scope=SCOPE, locations=['mmreuse.networks.edits', 'mmreuse.merging', 'mmreuse.modularization',
                                    'mmreuse.pruning', 'mmreuse.renormalization'])
LAYERS = Registry(
    'layer', scope=SCOPE, locations=['mmreuse.modularization', 'mmreuse.pruning', 'mmreuse.renormalization'])
