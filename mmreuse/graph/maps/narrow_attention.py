"""PyTorch's attention with fewer heads than its embedding is wide."""
from torch import Tensor, nn

from mmreuse.graph.spaces.rules.decompose import multi_head_attention


class NarrowAttention(nn.MultiheadAttention):
    """Attention whose heads together are narrower than what goes in and comes out.

    :class:`torch.nn.MultiheadAttention` computes only with ``num_heads * head_dim == embed_dim``; this has the same
    parameters and computes with any number of heads.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
                need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend; arguments and result are those of :class:`torch.nn.MultiheadAttention`."""
        turn = self.batch_first and query.dim() == 3
        if turn:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        out, weights = multi_head_attention(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias, self.bias_k,
            self.bias_v, self.add_zero_attn, self.dropout, self.out_proj.weight, self.out_proj.bias, self.training,
            key_padding_mask, need_weights, attn_mask, use_separate_proj_weight=self.in_proj_weight is None,
            q_proj_weight=self.q_proj_weight, k_proj_weight=self.k_proj_weight, v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights, is_causal=is_causal)
        return out.transpose(0, 1) if turn else out, weights


def fit_attention(module: nn.Module) -> None:
    """Let PyTorch's attention compute with the sizes that its parameters have, in place; others stay as they are."""
    if isinstance(module, nn.MultiheadAttention) and set(module.out_proj.weight.shape) != {module.embed_dim}:
        if type(module) is nn.MultiheadAttention:
            module.__class__ = NarrowAttention
        # Fused kernels of encoder layers, which know no such attention, are for those of this name.
        module._qkv_same_embed_dim = False
