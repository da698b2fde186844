"""The published greedy loop of zip, step by step as it is described: reference of the benchmark and of the tests."""
import torch
from torch import Tensor


def literal_zip(similarity: Tensor, sizes: list[int], size: int, alpha: float, beta: float) -> list[list[int]] | None:
    """Groups of features, in the order of the loop; None where it dead-ends.

    Each step takes the first largest entry of the whole matrix, adds the columns of the two groups, and deletes the
    second by concatenating what lies around its row and column.

    Args:
        similarity: Symmetric, shape (O, O).
        sizes: Features of each model.
        size: Groups to end with.
        alpha: Factor on the similarities of merged groups, positive.
        beta: Share of the merges that may be within models.
    """
    table = similarity.clone().fill_diagonal_(-torch.inf)
    total = len(table)
    members = torch.eye(total)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    budget = [int((total - size) // len(sizes) * beta + 1e-4)] * len(sizes)
    while len(table) > size:
        flat = int(table.argmax())
        i, j = sorted((flat // len(table), flat % len(table)))
        if table[i, j] == -torch.inf:
            return None
        within = int(labels[i]) if labels[i] == labels[j] else None
        merged = alpha * torch.minimum(table[i], table[j])
        members[:, i] += members[:, j]
        table[i], table[:, i] = merged, merged
        table[i, i] = -torch.inf
        table = torch.cat([table[:j], table[j + 1:]])
        table = torch.cat([table[:, :j], table[:, j + 1:]], 1)
        members = torch.cat([members[:, :j], members[:, j + 1:]], 1)
        labels = torch.cat([labels[:j], labels[j + 1:]])
        if within is not None:
            budget[within] -= 1
            if budget[within] <= 0:
                own = labels == within
                table[own[:, None] & own] = -torch.inf
    return [column.nonzero().flatten().tolist() for column in members.T]
