"""Fused operations, run as the simpler ones they consist of."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmreuse.graph.spaces.operations import DECOMPOSITIONS


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
                         in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None,
                         bias_v: Tensor | None, add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor,
                         out_proj_bias: Tensor | None, training: bool = True, key_padding_mask: Tensor | None = None,
                         need_weights: bool = True, attn_mask: Tensor | None = None,
                         use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None,
                         k_proj_weight: Tensor | None = None, v_proj_weight: Tensor | None = None,
                         static_k: Tensor | None = None, static_v: Tensor | None = None,
                         average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
    """``F.multi_head_attention_forward``, with heads of any width together: same arguments, same result.

    Args:
        query, key, value: (L, N, C), or (L, C) without a batch; the others as PyTorch names them.

    Returns:
        tuple: Output (L, N, C) and attention (N, L, S), or (N, heads, L, S) if not averaged.
    """
    batched = query.dim() == 3
    if not batched:
        query, key, value = (item.unsqueeze(1) for item in (query, key, value))
    separate = q_proj_weight, k_proj_weight, v_proj_weight
    weights = separate if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    query, key, value = (F.linear(item, weight, bias) for item, weight, bias in
                         zip((query, key, value), weights, biases, strict=True))
    if bias_k is not None:
        key, value = (torch.cat([item, bias.expand(1, item.shape[1], -1)])
                      for item, bias in ((key, bias_k), (value, bias_v)))
    query, key, value = (item.reshape(item.shape[0], item.shape[1], num_heads, -1).permute(1, 2, 0, 3)
                         for item in (query, key, value))
    if add_zero_attn:
        key, value = (F.pad(item, (0, 0, 0, 1)) for item in (key, value))
    logits = torch.matmul(query, key.transpose(-2, -1)) * query.shape[-1] ** -0.5
    for mask in (attn_mask, None if key_padding_mask is None else key_padding_mask[:, None, None, :]):
        if mask is not None:
            if mask.dim() == 3:
                mask = mask.reshape(-1, num_heads, *mask.shape[1:])
            logits = logits.masked_fill(mask, float('-inf')) if mask.dtype == torch.bool else logits + mask
    attention = F.dropout(logits.softmax(-1), dropout_p, training)
    out = torch.matmul(attention, value).permute(2, 0, 1, 3).flatten(2)
    out = F.linear(out, out_proj_weight, out_proj_bias)
    if not batched:
        out, attention = out.squeeze(1), attention.squeeze(0)
    if not need_weights:
        return out, None
    return out, attention.mean(-3) if average_attn_weights else attention


DECOMPOSITIONS['multi_head_attention_forward'] = multi_head_attention
