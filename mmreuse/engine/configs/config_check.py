"""Checks of a whole config before anything starts."""
import logging
import math
from collections.abc import Collection, Mapping
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from mmpretrain.registry import BATCH_AUGMENTS
from torch.utils.data import DataLoader

import mmreuse.registry as ours
from mmreuse.engine.configs.number_check import check_numbers
from mmreuse.errors import ConfigError
from mmreuse.utils.configs.components import check_keywords, find_component, parameters_of, registered_names
from mmreuse.utils.configs.keys import check_keys
from mmreuse.utils.names import misspells, nearest, refuse_unknown, shown

_METHODS = (ours.SIMILARITIES, ours.PROXIES, ours.MATCHERS, ours.MERGERS, ours.RENORMALIZERS, ours.SALIENCIES,
            ours.ATTACKS, ours.ENGINES, ours.JOBS)
#: In which registry a component stands that is given under a key, wherever that is.
_KINDS: dict[str, Registry] = {
    **dict.fromkeys(('model', 'classifier', 'backbone', 'neck', 'head', 'loss', 'data_preprocessor'), ours.MODELS),
    **dict.fromkeys(('dataset', 'datasets'), ours.DATASETS),
    **dict.fromkeys(('pipeline', 'transforms', 'load'), ours.TRANSFORMS),
    **dict.fromkeys(('sampler', 'batch_sampler'), ours.DATA_SAMPLERS),
    **dict.fromkeys(('collate_fn', 'worker_init_fn'), root.FUNCTIONS),
    **dict.fromkeys(('val_evaluator', 'test_evaluator', 'metrics'), ours.METRICS),
    **dict.fromkeys(('default_hooks', 'custom_hooks'), ours.HOOKS),
    **dict.fromkeys(('matcher', 'matchers', 'overrides'), ours.MATCHERS),
    **dict.fromkeys(('merger', 'mergers'), ours.MERGERS),
    'renormalizers': ours.RENORMALIZERS, 'saliency': ours.SALIENCIES, 'attacks': ours.ATTACKS,
    'engines': ours.ENGINES, 'job': ours.JOBS, 'proxy': ours.PROXIES, 'similarity': ours.SIMILARITIES,
    'optim_wrapper': ours.OPTIM_WRAPPERS, 'optimizer': root.OPTIMIZERS, 'param_scheduler': root.PARAM_SCHEDULERS,
    'visualizer': root.VISUALIZERS, 'vis_backends': root.VISBACKENDS, 'log_processor': root.LOG_PROCESSORS,
    'init_cfg': root.WEIGHT_INITIALIZERS, 'augments': BATCH_AUGMENTS,
}
#: Keys whose components have a default type.
_TYPED = {'optim_wrapper': 'OptimWrapper', 'log_processor': 'LogProcessor', 'visualizer': 'Visualizer'}
#: Keys that may hold components by names of their own.
_NAMED = ('default_hooks', 'matchers', 'mergers', 'overrides', 'renormalizers', 'attacks', 'val_evaluator',
          'test_evaluator', 'optim_wrapper', 'param_scheduler')
#: What who builds a component adds to its config, or takes out of it before; None for anything.
_ADDED: dict[str, tuple[str, ...] | None] = {
    'loop': ('runner', 'dataloader', 'evaluator'), 'optimizer': ('params',), 'function': None,
    'data sampler': ('dataset', 'sampler', 'batch_size'), 'optim_wrapper': None, 'parameter scheduler': None,
    'weight initializer': None, 'vis_backend': ('save_dir',), 'visualizer': ('save_dir', 'name')}
_TAKEN = {'optim_wrapper': ('constructor', 'paramwise_cfg', 'optimizer'), 'hook': ('priority',), 'attack': ('clip',),
          'parameter scheduler': ('convert_to_iter_based',)}
#: What each part of a run needs beside itself.
_TOGETHER = (('train_dataloader', 'train_cfg', 'optim_wrapper'), ('val_dataloader', 'val_cfg', 'val_evaluator'),
             ('test_dataloader', 'test_cfg', 'test_evaluator'))
_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
_SECTIONS = {'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
             'auto_scale_lr': ('enable', 'base_batch_size'), 'custom_imports': ('imports', 'allow_failed_imports')}
#: What mmengine's constructor of optimizers reads; other constructors read other keys.
_PARAMWISE = ('lr_mult', 'decay_mult', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult',
              'flat_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate', 'custom_keys')
_LOOPS = {'train_cfg': None, 'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}
#: Keys of one stage of a pipeline; those beside the first three stand in for those of the config.
_STAGE = ('name', 'job', 'networks', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'test_evaluator', 'seed',
          'controls')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_config(cfg: Config, partial: bool = False) -> None:
    """Check that every component exists and takes its keywords, and that numbers make sense.

    Args:
        cfg: As the runner gets it.
        partial: It is a base of other configs, which may add types and keywords.

    Raises:
        ConfigError: Names file, key and cause, and the nearest name.
    """
    _Check(cfg, partial).run()


class _Check:
    """One config, walked from top to bottom; a place is file and dotted keys."""

    def __init__(self, cfg: Config, partial: bool) -> None:
        self.cfg = cfg
        self.values = {key: value for key, value in cfg.to_dict().items() if value is not None}
        self.file = cfg.filename or 'config'
        self.partial = partial

    def run(self) -> None:
        check_keys(self.cfg)
        for key, value in self.values.items():
            place = f'{self.file}: {key}'
            check_numbers(place, key, value)
            if key in _LOADERS:
                self.check_loader(place, value)
            elif key in _LOOPS:
                self.check_loop(place, key, value)
            elif key == 'randomness':
                self.check_dict(place, value)
                check_keywords(place, Runner.set_randomness, {'self': None, **value})
            elif key == 'runner_type':
                self.find(place, value, ours.RUNNERS, None)
            elif key == 'stages':
                self.check_stages(place, value)
            elif key in _SECTIONS:
                self.check_section(place, value, _SECTIONS[key])
            else:
                self.walk(place, key, value, _KINDS.get(key))
        self.check_optimizer()
        if not self.partial:
            self.check_completeness()
            self.check_schedules()
            self.build_checked()

    def walk(self, place: str, key: str, value: Any, kind: Registry | None, expected: bool = True) -> None:
        """Check what stands at a place, and all below it.

        Args:
            place: File and keys.
            key: The last key that is not a number.
            value: What stands there.
            kind: Of the component that it is or holds, None where it need not be one.
            expected: Nothing but such a component may stand there.
        """
        if isinstance(value, list | tuple):
            for number, each in enumerate(value):
                self.walk(f'{place}[{number}]', key, each, kind, expected)
        elif isinstance(value, Mapping):
            if 'library' not in value:  # an entry of a zoo names its network otherwise, and is read by parse_zoo
                self.walk_mapping(place, key, value, kind, expected)
        elif kind in _METHODS and isinstance(value, str):
            self.find(place, value, kind, None)
        elif kind is not None and expected and kind not in _METHODS and isinstance(value, str | int | float):
            raise ConfigError(f'{place} = {shown(value)}: expected dict(type=...), a {kind.name}.')

    def walk_mapping(self, place: str, key: str, value: Mapping, kind: Registry | None, expected: bool) -> None:
        """Check a component or a section, and all below it."""
        if kind is not None and 'type' not in value and _holds_components(key, value):
            for name, each in value.items():
                self.walk(f'{place}.{name}', '', each, kind, expected)
            return
        if 'type' in value or kind is not None and expected:
            self.check_component(place, key, value, kind)
        inner = 'type' in value or key in self.values
        for name, each in value.items():
            if name != 'type':
                self.walk(f'{place}.{name}', str(name), each, _KINDS.get(name), inner and key != 'custom_hooks')

    def check_component(self, place: str, key: str, value: Mapping, kind: Registry | None) -> None:
        name = value.get('type', _TYPED.get(key))
        if name is None:
            if self.partial:
                return
            raise ConfigError(f"{place}: there is no 'type', which says what {kind.name} this is. Add type='...'.")
        component = self.find(f'{place}.type', name, kind, value.get('_scope_'))
        given = {name: each for name, each in value.items() if name not in ('type', '_scope_')}
        if kind is None:
            kind = next((each for each in _METHODS if component in each.module_dict.values()), None)
        if kind in _METHODS:
            known = {*parameters_of(component)[0], *(kind.given if kind.reserved else ())}
            wrong = next((each for each in given if each in known - {*kind.method(component).settable}), None)
            if wrong is not None:
                raise ConfigError(f"{place}: '{wrong}' is given to {name} by the run; take it out.")
        unsure = self.partial or kind is None or kind in _METHODS
        check_keywords(place, component, given, more=_TAKEN.get(kind.name, ()) if kind is not None else (),
                       given_by_code=None if unsure else _ADDED.get(kind.name, ()))

    def find(self, place: str, name: Any, kind: Registry | None, scope: str | None) -> Any:
        """Return the component of a name.

        Raises:
            ConfigError: There is none.
        """
        if not isinstance(name, str) and not callable(name):
            raise ConfigError(f'{place} = {shown(name)}: expected the name of a {kind.name if kind else "component"}.')
        component = find_component(name, kind, scope)
        if component is None:
            what = kind.name if kind is not None else 'component'
            known = registered_names(kind) if kind is not None else set()
            raise ConfigError(f"{place} = '{name}': there is no {what} '{name}'. "
                              + (nearest(name, known) if known else 'Check its name.'))
        return component

    def check_dict(self, place: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise ConfigError(f'{place} = {shown(value)}: expected dict(...).')

    def check_section(self, place: str, value: Any, known: Collection[str]) -> None:
        """Check a section whose keys are all known."""
        self.check_dict(place, value)
        refuse_unknown(place, value, known, 'key')
        for key, each in value.items():
            if key == 'mp_cfg':
                self.check_dict(f'{place}.{key}', each)
                check_keywords(f'{place}.{key}', set_multi_processing, each)

    def check_stages(self, place: str, value: Any) -> None:
        """Check the stages of a pipeline, each as a config of its own."""
        if not isinstance(value, list | tuple) or not value:
            raise ConfigError(f'{place} = {shown(value)}: expected a list of dict(name=..., job=dict(type=...), ...).')
        for number, stage in enumerate(value):
            own = f'{place}[{number}]'
            self.check_section(own, stage, _STAGE)
            for key, each in stage.items():
                if key in _LOADERS:
                    self.check_loader(f'{own}.{key}', each)
                else:
                    self.walk(f'{own}.{key}', key, each, _KINDS.get(key))

    def check_optimizer(self) -> None:
        """Check how the optimizer is put together, and that default hooks are no misspelt ones."""
        wrapper = self.values.get('optim_wrapper') or {}
        constructor = wrapper.get('constructor')
        place = f'{self.file}: optim_wrapper'
        known = _PARAMWISE
        if constructor is not None:
            found = self.find(f'{place}.constructor', constructor, ours.OPTIM_WRAPPER_CONSTRUCTORS, None)
            known = getattr(found, 'paramwise_keys', None)
        if wrapper.get('paramwise_cfg') and known is not None:
            self.check_section(f'{place}.paramwise_cfg', wrapper['paramwise_cfg'], known)
        if wrapper and not self.partial and not _components(place, wrapper.get('optimizer', wrapper)):
            raise ConfigError(f"{place}: there is no optimizer. Add optimizer=dict(type='SGD', lr=...).")
        for name in self.values.get('default_hooks') or ():
            if misspells(name, _HOOKS):
                raise ConfigError(f"{self.file}: default_hooks has the key '{name}'. {nearest(name, _HOOKS)}")

    def check_completeness(self) -> None:
        """Check that a Runner has all that it needs; stages say so themselves."""
        if self.values.get('runner_type', 'Runner') != 'Runner':
            return
        if 'model' not in self.values:
            raise ConfigError(f'{self.file}: there is no model, and no runner_type that would do without. Add '
                              'model=dict(type=...).')
        for keys in _TOGETHER:
            if 'train_cfg' in keys and not self.trains():
                keys = keys[:2]  # no optimizer
            absent = [key for key in keys if key not in self.values]
            if 0 < len(absent) < len(keys):
                there = ' and '.join(key for key in keys if key not in absent)
                raise ConfigError(f'{self.file}: {there} without {" and ".join(absent)}. Give all of '
                                  f'{", ".join(keys)}, or none of them.')

    def trains(self) -> bool:
        """Return whether the run has iterations, or may have."""
        training = self.values.get('train_cfg') or {}
        return 0 not in (training.get('max_epochs'), training.get('max_iters'))

    def check_loader(self, place: str, value: Any) -> None:
        """Check a data loader's own keys, its data set and samplers."""
        self.check_dict(place, value)
        more = ('dataset', 'sampler', 'batch_sampler', 'num_batch_per_epoch')
        check_keywords(place, DataLoader.__init__, {'self': None, **value}, more=more,
                       given_by_code=('dataset',) if self.partial else ())
        if not self.partial and not {'sampler', 'batch_sampler'} & {key for key, each in value.items() if each}:
            raise ConfigError(f"{place}: there is no sampler. Add sampler=dict(type='DefaultSampler', shuffle=...).")
        for key, each in value.items():
            if each is not None:
                self.walk(f'{place}.{key}', key, each, _KINDS.get(key))

    def check_loop(self, place: str, key: str, value: Any) -> None:
        """Check a loop; the one for training is named by its type or by what it counts."""
        self.check_dict(place, value)
        name = value.get('type', _LOOPS[key])
        if name is None:
            if 'by_epoch' not in value:
                if self.partial:
                    return
                raise ConfigError(f'{place}: what is counted is not said. Add by_epoch=True or False, or a type.')
            name = 'EpochBasedTrainLoop' if value['by_epoch'] else 'IterBasedTrainLoop'
        elif 'by_epoch' in value:
            raise ConfigError(f'{place}: give type or by_epoch, not both.')
        given = {name: each for name, each in value.items() if name not in ('type', 'by_epoch')}
        check_keywords(place, self.find(f'{place}.type', name, ours.LOOPS, None), given,
                       given_by_code=None if self.partial else _ADDED['loop'])

    def check_schedules(self) -> None:
        """Check that every schedule begins before it ends; warn of one that begins when training is over."""
        training = self.values.get('train_cfg') or {}
        by_epoch = training.get('by_epoch', 'max_epochs' in training)
        key = 'max_epochs' if by_epoch else 'max_iters'
        length = training.get(key)
        if length is not None and (isinstance(length, bool) or not isinstance(length, int)):
            raise ConfigError(f'{self.file}: train_cfg.{key} = {shown(length)}: give a whole number.')
        for place, each in _components(f'{self.file}: param_scheduler', self.values.get('param_scheduler')):
            begin, end = each.get('begin', 0), each.get('end', math.inf)
            for key, number in (('begin', begin), ('end', end)):
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise ConfigError(f'{place}.{key} = {shown(number)}: give a number of epochs or iterations.')
            if not begin < end:
                raise ConfigError(f'{place}: begin = {begin} is not before end = {end}.')
            if length and each.get('by_epoch', True) == by_epoch and begin >= length:
                unit = 'epoch' if by_epoch else 'iteration'
                # No error: whoever cuts a training short to try it out leaves the schedule as it is.
                print_log(f'{place}: begins at {unit} {begin}, and training is over at {length}: it has no effect.',
                          'current', logging.WARNING)

    def build_checked(self) -> None:
        """Build what costs nothing to build: metrics and hooks of mmreuse, which check their own keywords."""
        for key in ('val_evaluator', 'test_evaluator', 'custom_hooks', 'default_hooks'):
            kind = _KINDS[key]
            for place, each in _components(f'{self.file}: {key}', self.values.get(key)):
                component = find_component(each['type'], kind, each.get('_scope_'))
                if not component.__module__.startswith('mmreuse.'):
                    continue
                try:
                    component(**{name: value for name, value in each.items() if name not in ('type', '_scope_',
                                                                                             'priority')})
                except ConfigError as error:
                    raise ConfigError(f'{place}: {error}') from error
                except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
                    raise ConfigError(f'{place}: cannot be built: {" ".join(str(error).split())}. See the docstring of '
                                      f'{component.__name__} for what it takes.') from error


def _holds_components(key: str, value: Mapping) -> bool:
    """Return whether a section without a type holds components by names of their own."""
    return key in _NAMED and not (key == 'optim_wrapper' and 'optimizer' in value)


def _components(place: str, value: Any) -> list[tuple[str, Mapping]]:
    """Return the nearest components at a place or below it."""
    if isinstance(value, Mapping) and 'type' in value:
        return [(place, value)]
    if isinstance(value, Mapping):
        below = [(f'{place}.{name}', each) for name, each in value.items()]
    else:
        below = [(f'{place}[{number}]', each) for number, each in enumerate(value)] \
            if isinstance(value, list | tuple) else []
    return [found for where, each in below for found in _components(where, each)]
