"""All registries of mmreuse: children of mmengine's, scope ``mmreuse``.

Two kinds of component exist. Classes are built as everywhere in OpenMMLab. Methods (similarities, proxies, matchers,
renormalizers, ...) are plain functions: each declares, where it is registered, what it needs of a run, so that adding
one takes one decorated function. See :class:`MethodRegistry`.
"""
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'mmreuse'


@dataclass(frozen=True, eq=False)
class Method:
    """A function with what it declares, and the options that are bound to it. It is called as the function is.

    Attributes:
        name: The name it is registered by.
        function: The function itself.
        needs: Keywords that the run gives it, where the run has them and :attr:`options` does not.
        required: Those of :attr:`needs` that have no default: a run without them cannot call it.
        settable: Keywords that a config may set.
        chooses: Whether it chooses on validation data: it may, and :attr:`options` has not settled the choice.
        choice: The option that it chooses, and returns, where a config does not set it.
        data_free: Whether it goes without data, whatever of them it is given.
        pooled: Whether it takes all batches as one.
        fitted: Whether networks are to have their stitching layers fitted before it sees them.
        requires: From a network to a sentence that says which layers it lacks, or None if it has them.
        maps: Of a matcher, the group that its maps are from, where that is more than permutations: 'orthogonal' or
            'invertible'.
        options: Keywords that are bound.
    """
    name: str
    function: Callable
    needs: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    settable: tuple[str, ...] = ()
    chooses: bool = False
    choice: str | None = None
    data_free: bool = False
    pooled: bool = False
    fitted: bool = False
    requires: Callable[[Any], str | None] | None = None
    maps: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        """Call the function; what is given here goes before what is bound."""
        return self.function(*arguments, **{**self.options, **given})

    def bind(self, **options: Any) -> 'Method':
        """Return the method with more options bound."""
        settled = {'validation', 'score', self.choice} & options.keys()
        return replace(self, options={**self.options, **options}, chooses=self.chooses and not settled)

    def accepted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of the given keywords that it needs, are not None and not bound."""
        return {key: given[key] for key in self.needs if given.get(key) is not None and key not in self.options}


def _of_the_first(options: Mapping[str, Any], given: Sequence[Any], data: Any) -> Any:
    return given[0]


def _no_modules(options: Mapping[str, Any], given: Sequence[Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, eq=False)
class Job(Method):
    """A method from networks to a network: ``job(networks, **given)``.

    Attributes:
        networks: The least and the largest number that it takes; None for any.
        classes: ``f(options, given, data)``: the outputs of its network, of those of each network that it takes and of
            the classes that the data count; by default those of the first network.
        equal_cost: ``f(networks, result, *, seed, **keywords)`` with the keywords of the call: a network of the
            result's cost to compare it with, None where there is none; or the reason why there never is.
        modules: ``f(options, given, known)``: the outputs of the modules that its network has, by name, of those of
            each network that it takes and of the modules that the first of these has; by default there are none.
        check: Raises an error for options that make no sense.
    """
    networks: tuple[int, int | None] = (1, 1)
    classes: Callable[[Mapping[str, Any], Sequence[Any], Any], Any] = _of_the_first
    equal_cost: Callable[..., Any] | str = 'none is known'
    modules: Callable[[Mapping[str, Any], Sequence[Any], Mapping[str, Any]], Mapping[str, Any]] = _no_modules
    check: Callable[[Mapping[str, Any]], None] | None = None


class MethodRegistry(Registry):
    """Plain functions that declare what they need.

    ``@RENORMALIZERS.register_module(name='mine', needs=('samples', 'ends'))`` registers one. What it declares is
    checked there and then, and becomes a :class:`Method` when it is looked up.

    Args:
        name: What one of them is called in messages.
        location: Module that registers them, or several.
        given: Keywords that runs give to those that need them.
        kind: What they declare.
        reserved: Whether configs must not set what runs give.
    """

    def __init__(self, name: str, location: str | Sequence[str], given: Sequence[str] = (),
                 kind: type[Method] = Method, reserved: bool = False) -> None:
        super().__init__(name, build_func=bind_function, scope=SCOPE,
                         locations=[location] if isinstance(location, str) else list(location))
        self.given = tuple(given)
        self.kind = kind
        self.reserved = reserved
        self._methods: dict[Callable, Method] = {}

    def register_module(self, name: str | None = None, force: bool = False, module: Callable | None = None, *,
                        needs: Sequence[str] = (), **declared: Any) -> Callable:
        """Register a function; the keywords are attributes of the registry's kind of :class:`Method`.

        Raises:
            TypeError: What it declares and its parameters contradict each other, or there is no such attribute.
            KeyError: The name is taken.
        """
        def register(function: Callable) -> Callable:
            method = replace(self._from_signature(function), name=name or function.__name__,
                             **{'chooses': False, **declared})
            self._check(method, needs)
            self._register_module(module=function, module_name=name, force=force)
            self._methods[function] = method
            return function

        return register if module is None else register(module)

    def method(self, function: Callable) -> Method:
        """Return a function with what it declares.

        One that is not registered declares nothing: it needs what the run can give of its parameters, and chooses if
        that is among them. This is the only place where that is read from a signature.
        """
        if isinstance(function, Method):
            return function
        if isinstance(function, partial) and not function.args:
            return self.method(function.func).bind(**function.keywords)
        return self._methods.get(function) or self._from_signature(function)

    def _check(self, method: Method, needs: Sequence[str]) -> None:
        where = f"{self.name} '{method.name}'"
        for key in needs:
            if key not in method.needs:
                given = key in self.given
                raise TypeError(f"{where} declares that it needs '{key}', "
                                + ('which is none of its parameters.' if given else
                                   f'which no run gives. Runs give: {", ".join(self.given) or "nothing"}.'))
        for key in method.needs:
            if key not in needs:
                raise TypeError(f"{where} has the parameter '{key}', which runs give to those that declare it: add it "
                                'to `needs`.')
        if method.chooses and 'validation' not in needs:
            raise TypeError(f"{where} declares that it chooses, and does not need 'validation' to do so.")
        if method.choice is not None and not (method.chooses and method.choice in method.settable):
            raise TypeError(f"{where} declares that it chooses '{method.choice}', which is none of its options, or "
                            'that it does not choose.')

    def _from_signature(self, function: Callable) -> Method:
        """Return a method that declares nothing, with what its parameters say."""
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # written in C
            parameters = {}
        needs = tuple(key for key in self.given if key in parameters)
        required = tuple(key for key in needs if parameters[key].default is inspect.Parameter.empty)
        fixed = needs if self.reserved else required
        settable = tuple(key for key, each in parameters.items() if each.kind is each.KEYWORD_ONLY and key not in fixed)
        return self.kind(getattr(function, '__name__', str(function)), function, needs, required, settable,
                         chooses='validation' in needs)


def bind_function(cfg: Mapping[str, Any], registry: MethodRegistry) -> Method:
    """Bind the keywords of ``cfg`` to the registered function ``cfg['type']``.

    Args:
        cfg: ``dict(type=NAME, **keywords)``.
        registry: The registry that holds the function.

    Raises:
        KeyError: No function of that name is registered.
    """
    keywords = dict(cfg)
    name = keywords.pop('type')
    registry.import_from_location()
    function = name if callable(name) else registry.module_dict.get(name)
    if function is None and '.' in name:
        function = registry.get(name)  # of another scope; an unknown bare name it would take for a module to import
    if not callable(function):
        known = ', '.join(sorted(registry.module_dict))
        raise KeyError(f"{registry.name} '{name}' is not registered. Known: {known}")
    return registry.method(function).bind(**keywords)


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
    'optim_wrapper', parent=root.OPTIM_WRAPPERS, scope=SCOPE, locations=['mmreuse.engine.training.optim_wrapper'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor', parent=root.OPTIM_WRAPPER_CONSTRUCTORS, scope=SCOPE,
    locations=['mmreuse.engine.training.optim_wrapper'])
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

SIMILARITIES = MethodRegistry('similarity', 'mmreuse.reassembly.similarity.similarities')
PROXIES = MethodRegistry('proxy', 'mmreuse.reassembly.search.proxies', given=('goals',))
MATCHERS = MethodRegistry('matcher', 'mmreuse.merging.matchers', given=('graphs', 'moments', 'spaces'))
MERGERS = MethodRegistry(
    'merger', 'mmreuse.merging.mergers',
    given=('weights', 'task_vectors', 'matrices', 'task_matrices', 'grams', 'fisher'))
RENORMALIZERS = MethodRegistry(
    'renormalizer', ('mmreuse.renormalization', 'mmreuse.calibration'),
    given=('samples', 'ends', 'sources', 'owners', 'targets', 'moments', 'weights', 'layers', 'validation', 'score',
           'scores'))
SALIENCIES = MethodRegistry(
    'saliency', ('mmreuse.pruning.saliencies', 'mmreuse.pruning.channels.elimination'), given=('fisher', 'moments'))
ATTACKS = MethodRegistry('attack', 'mmreuse.robustness.attacks')
ENGINES = MethodRegistry('engine', 'mmreuse.deployment.engines', given=('threads', 'folder'))
JOBS = MethodRegistry(
    'job', 'mmreuse.engine.jobs', given=('images', 'labelled', 'validation', 'seed', 'folder'), kind=Job, reserved=True)
TEACHERS = MethodRegistry('teacher', 'mmreuse.distillation.teachers', given=('tasks', 'rule', 'features'))
BASES = Registry('base', scope=SCOPE, locations=['mmreuse.networks.bases'])
EDITS = Registry(
    'edit', scope=SCOPE, locations=['mmreuse.networks.edits', 'mmreuse.merging', 'mmreuse.modularization',
                                    'mmreuse.pruning', 'mmreuse.renormalization', 'mmreuse.deployment'])
LAYERS = Registry(
    'layer', scope=SCOPE, locations=['mmreuse.modularization', 'mmreuse.pruning', 'mmreuse.renormalization'])
