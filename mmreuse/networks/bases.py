"""Bases: networks of known libraries, by name and arguments."""
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmreuse.errors import ArtefactError, ConfigError
from mmreuse.networks.own_code import absolute, import_code, is_own_code, is_trusted
from mmreuse.networks.record import Record, set_record
from mmreuse.registry import BASES, MODELS
from mmreuse.utils.configs.components import refuse_code
from mmreuse.utils.names import nearest

#: Options that would fetch weights, or read files.
_REFUSED = ('pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'checkpoint_path', 'cache_dir', 'weights',
            'weights_backbone')


class Library(ABC):
    """Networks that a package builds from a name and plain options, with random weights."""

    @abstractmethod
    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Build a network.

        Raises:
            ArtefactError: There is none of that name.
        """

    def names(self) -> Sequence[str]:
        """Return the names that it knows; none where any may be given."""
        return ()

    def recognise(self, network: nn.Module) -> dict[str, Any] | None:
        """Return ``name``, ``options`` and, where known, ``inputs`` of a network, or None if it is of elsewhere."""
        return None


@BASES.register_module(name='timm')
class Timm(Library):
    """Names of ``timm.list_models()``."""

    def names(self) -> Sequence[str]:
        import timm
        return timm.list_models()

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        import timm
        if not timm.is_model(name):
            raise ArtefactError(f"timm has no model '{name}'. {nearest(name, timm.list_models())}")
        return timm.create_model(name, **options)

    def recognise(self, network: nn.Module) -> dict[str, Any] | None:
        cfg = getattr(network, 'pretrained_cfg', None) or getattr(network, 'default_cfg', None)
        if not isinstance(cfg, Mapping) or not cfg.get('architecture'):
            return None
        classes = getattr(network, 'num_classes', None)
        options = dict(num_classes=classes) if isinstance(classes, int) else {}
        inputs = [[[1, *cfg['input_size']], 'float32']] if cfg.get('input_size') else []
        return dict(name=cfg['architecture'], options=options, inputs=inputs)


@BASES.register_module(name='torchvision')
class Torchvision(Library):
    """Names of ``torchvision.models.list_models()``."""

    def names(self) -> Sequence[str]:
        from torchvision import models
        return models.list_models()

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        from torchvision import models
        if name not in models.list_models():
            raise ArtefactError(f"torchvision has no model '{name}'. {nearest(name, models.list_models())}")
        return models.get_model(name, weights=None, **options)

    def recognise(self, network: nn.Module) -> dict[str, Any] | None:
        module = type(network).__module__
        if not module.startswith('torchvision.models'):
            return None
        from torchvision import models
        heads = [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)]
        wanted = _shapes(network)
        for name in models.list_models():
            if models.get_model_builder(name).__module__ != module:
                continue
            for options in ({}, *([dict(num_classes=heads[-1])] if heads else [])):
                try:
                    with torch.device('meta'):
                        twin = self.build(name, options)
                except NotImplementedError:  # RegNet's builders compute widths with tensors
                    continue
                if type(twin) is type(network) and _shapes(twin) == wanted:
                    return dict(name=name, options=options)
        return None


@BASES.register_module(name='mmpretrain')
class MMPretrain(Library):
    """Model configs of mmpretrain, and of what mmreuse registers beside it: the options are the config.

    Names are those of its model zoo.
    """

    def names(self) -> Sequence[str]:
        from mmpretrain.apis import list_models
        return list_models()

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        import mmpretrain.models  # noqa: F401 (fills the registries)
        from mmengine.registry import init_default_scope
        cfg = _without_init(dict(options, type=name))
        _check_types(cfg)
        refuse_code(cfg, f'the model config of {name}')
        init_default_scope('mmreuse')
        return MODELS.build(cfg)

    def recognise(self, network: nn.Module) -> dict[str, Any] | None:
        config = getattr(network, '_config', None)
        if config is None or not hasattr(config, 'model'):
            return None
        options = _without_init(config.model.to_dict())
        return dict(name=options.pop('type'), options=options)


@BASES.register_module(name='transformers')
class Transformers(Library):
    """Classes of Hugging Face's transformers: the options are the network's config. Names are those of classifiers."""

    def names(self) -> Sequence[str]:
        import transformers
        return [name for name in dir(transformers) if name.endswith('ForImageClassification')]

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        import transformers
        kind = getattr(transformers, name, None)
        if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
            raise ArtefactError(f"transformers has no network '{name}'.")
        return kind(kind.config_class.from_dict(dict(options)))

    def recognise(self, network: nn.Module) -> dict[str, Any] | None:
        if not type(network).__module__.startswith('transformers.'):
            return None
        return dict(name=type(network).__name__, options=network.config.to_dict())


@BASES.register_module(name='python')
class Python(Library):
    """The user's own code: ``package.module:callable``, or ``path/file.py:callable``."""

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        network = import_code(name)(**options)
        if not isinstance(network, nn.Module):
            raise ArtefactError(f"'{name}' gives a {type(network).__name__}, not a network.")
        return network


def create(name: str | Mapping[str, Any], *, trust_code: bool = True, **options: Any) -> nn.Module:
    """Build a network with random weights that knows where it comes from.

    ::

        net = create('timm:resnet18', num_classes=10)
        net = create('torchvision:resnet18')
        net = create('mmpretrain:resnet18_8xb32_in1k', head=dict(num_classes=10))    # of its model zoo
        net = create(dict(type='mmpretrain.ImageClassifier', backbone=..., head=...))
        net = create('my_package.models:make_net', width=64)

    Args:
        name: ``library:name``, your own code as ``FILE.py:FUNCTION`` or ``module:callable``, or a model config.
        trust_code: Import and call code of your own, also where :func:`~mmreuse.networks.trust` has not named it.
        **options: Plain values for the library's builder.

    Raises:
        ConfigError: An option would fetch weights: load them into the network instead.
        ArtefactError: There is no such network.
    """
    if isinstance(name, Mapping):
        base = config_base({**name, **options})
    else:
        library, _, own = name.partition(':')
        base = dict(base='python', name=absolute(name)) if is_own_code(name) else dict(base=library, name=own)
        base['options'] = options
    if refused := [key for key in options if key in _REFUSED]:
        raise ConfigError(f"create('{name}'): '{refused[0]}' would fetch weights. Load them into the network instead.")
    preprocessing = {}
    if base['base'] == 'mmpretrain':
        import mmpretrain.models  # noqa: F401 (fills the registries)
        if MODELS.get(base['name']) is None:
            base = _of_model_zoo(base['name'], options)
        preprocessing = base['options'].get('data_preprocessor') or {}
    return set_record(build_base(base, trust_code=trust_code), Record(base, preprocessing=preprocessing))


def config_base(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base that a model config describes."""
    options = _without_init(cfg)
    return dict(base='mmpretrain', name=options.pop('type'), options=options)


def record_config(network: nn.Module, cfg: Mapping[str, Any]) -> nn.Module:
    """Note on a network that it was built from a model config, and return it."""
    return set_record(network, Record(config_base(cfg), preprocessing=cfg.get('data_preprocessor') or {}))


def build_base(base: Mapping[str, Any], *, trust_code: bool = False) -> nn.Module:
    """Build the base of a structure, with random weights.

    Args:
        base: ``dict(base=LIBRARY, name=NAME, options={})``.
        trust_code: Import and call the user's own code.

    Raises:
        ArtefactError: The library is unknown or not installed, has no such network, or is code that is not trusted.
    """
    library, name, options = base.get('base'), base.get('name'), base.get('options') or {}
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise ArtefactError('the base of the network is damaged.')
    if library is None:
        raise ArtefactError(f"the network's class, {name}, is of no library that mmreuse knows, so that it cannot be "
                            "built again. Build it by mmreuse.create('module:callable', ...), or pass "
                            "base='module:callable' when saving.")
    if not isinstance(library, str) or library not in BASES.module_dict:
        raise ArtefactError(f"the network is of the library '{library}', which this version of mmreuse does not know. "
                            f'{nearest(str(library), BASES.module_dict)}')
    if library == 'python' and not (trust_code or is_trusted(name)):
        raise ArtefactError(f"the network is built by code of its author, '{name}', which would be imported and run. "
                            f'If you trust it, say so: --model {name} of a command, trust_code={[name]} in a config, '
                            'trust_code=True in Python.')
    if refused := [key for key in options if key in _REFUSED]:
        raise ArtefactError(f"the base of the network has the option '{refused[0]}', which would read other files.")
    try:
        return BASES.module_dict[library]().build(name, dict(options))
    except ImportError as error:
        raise ArtefactError(f"the network is of the library '{library}', which cannot be imported here ({error}). "
                            f'Install it: pip install {error.name or library}.') from error
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, AssertionError,
            ConfigError) as error:
        raise ArtefactError(f"{library} cannot build '{name}' with the options of the file ({type(error).__name__}: "
                            f'{error}). Another version of {library} may have made it.') from error


def recognise(network: nn.Module) -> dict[str, Any] | None:
    """Return the base that a network is, as far as its library tells; None where nothing is known."""
    for name, library in BASES.module_dict.items():
        if found := library().recognise(network):
            return dict(base=name, **found)
    return None


def _of_model_zoo(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the base of a model of mmpretrain's zoo, with changes merged into its config."""
    from mmpretrain.apis.model import ModelHub, list_models
    if name.lower() not in ModelHub._models_dict and name not in list_models():
        raise ArtefactError(f"mmpretrain has no model '{name}'. {nearest(name, list_models())}")
    known = ModelHub.get(name).config.to_dict()
    seen = {key: value for key, value in (known.get('data_preprocessor') or {}).items() if key != 'num_classes'}
    config = Config(dict(model=dict(data_preprocessor=seen, **known['model'])))
    config.merge_from_dict({f'model.{key}': value for key, value in changes.items()})
    return config_base(config.model.to_dict())


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


def _without_init(cfg: Any) -> Any:
    """Return a model config that names no checkpoints."""
    if isinstance(cfg, Mapping):
        return {key: _without_init(value) for key, value in cfg.items() if key != 'init_cfg'}
    return [_without_init(item) for item in cfg] if isinstance(cfg, list | tuple) else cfg


def _check_types(cfg: Any) -> None:
    """Refuse a ``type`` that is not registered: mmengine would import and call whatever it names."""
    if isinstance(cfg, Mapping):
        if cfg.get('type') is not None and not _is_registered(cfg['type']):
            raise ArtefactError(f"the model config names the type '{cfg['type']}', which is not registered.")
        cfg = list(cfg.values())
    if isinstance(cfg, list | tuple):
        for item in cfg:
            _check_types(item)


def _is_registered(name: Any) -> bool:
    scope, _, own = str(name).rpartition('.')
    family = [MODELS, MODELS.parent, *MODELS.parent.children.values()]
    for registry in family:
        registry.import_from_location()
    return isinstance(name, str) and any(own in registry.module_dict for registry in family
                                         if scope in ('', registry.scope))
