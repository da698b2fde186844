"""Keys of a config that are read."""
from collections.abc import Collection

from mmengine.config import Config

from mmreuse.errors import ConfigError
from mmreuse.utils.configs.files import unused_variables
from mmreuse.utils.names import misspells, nearest

#: Keys that mmengine's Runner and the tools read from a config.
RUNNER_KEYS = frozenset((
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'default_scope', 'randomness', 'experiment_name', 'runner_type', 'custom_imports',
    'trust_checkpoint', 'trust_code', 'load_strict', 'model_wrapper_cfg', 'strategy'))
#: Keys that stages read, beside some of the Runner's; one config serves several stages.
STAGE_KEYS = frozenset((
    'seed', 'device', 'overwrite', 'cache_dir', 'zoo', 'data', 'test_data', 'features', 'similarity',
    'similarity_file', 'partition', 'partition_file', 'reassembly', 'connectivity', 'merging', 'preserve_first',
    'repair', 'pruning', 'channels', 'modularization', 'robustness', 'job', 'networks', 'stages', 'only', 'controls'))
READ_KEYS = RUNNER_KEYS | STAGE_KEYS


def drop_helpers(cfg: Config) -> None:
    """Take out what only helped to write the config, so that what a run keeps of it is what is read.

    Raises:
        ConfigError: The file sets a key that neither a runner nor the file itself reads, or a base one that looks like
            a misspelling.
    """
    unused = unused_variables(cfg.filename)
    check_keys(cfg, unused)
    for key in [key for key in cfg.to_dict() if key not in READ_KEYS]:
        cfg.pop(key)


def check_keys(cfg: Config, unused: Collection[str] = ()) -> None:
    """Refuse keys that are read by nothing.

    Args:
        cfg: Config.
        unused: Those that do not even help to write the config.

    Raises:
        ConfigError: There is one of these, or a key that looks like a misspelling.
    """
    absent = [key for key in READ_KEYS if key not in cfg]
    for key in cfg.to_dict():
        if key not in READ_KEYS and (key in unused or not key.startswith('_') and misspells(key, absent)):
            raise ConfigError(f"{cfg.filename}: nothing reads the key '{key}'. {nearest(key, READ_KEYS)} Take it "
                              'out, or call it what should be read.')
