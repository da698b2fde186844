# Share weights, gradients and optimizer states of a large network among all processes (FSDP); none has a copy:
#   _base_ = ['TRAINING.py', '../_base_/strategies/fsdp.py']        tools/dist_train.sh CONFIG 8
runner_type = 'ShardedRunner'
strategy = dict(
    type='ResumableFSDPStrategy',
    # Parts of a million parameters and more are shared out each by itself, so that one at a time is whole.
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        auto_wrap_policy=dict(
            type='torch.distributed.fsdp.wrap.size_based_auto_wrap_policy', min_num_params=1_000_000)),
    # Checkpoints of the whole network, written by the first process: they are tested and trained on as any other.
    state_dict_cfg='full')
