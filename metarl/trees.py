"""Arithmetic on dicts of tensors: the weights of a policy, or one such set for each of K tasks."""

import torch
from torch import Tensor

from metarl.checks import InputError
from metarl.types import Params


def stack(params: Params, num_tasks: int) -> Params:
    """Give each of K tasks the same weights: every leaf [...] becomes a view [K, ...]."""
    return {name: leaf.expand(num_tasks, *leaf.shape) for name, leaf in params.items()}


def sum_over_tasks(stacked: Params) -> Params:
    """Add up stacked weights [K, ...] over their tasks, in float64.

    There a sum of a few thousand numbers of float32 is exact but for the rarest cases: it does not
    show how the tasks were split into blocks, or over processes.
    """
    return {name: leaf.sum(0, dtype=torch.float64) for name, leaf in stacked.items()}


def detach(params: Params) -> Params:
    """Cut the weights from the graph that made them."""
    return {name: leaf.detach() for name, leaf in params.items()}


def flatten(params: Params) -> Tensor:
    """Lay all leaves end to end, as one vector [P]."""
    return torch.cat([leaf.reshape(-1) for leaf in params.values()])


def unflatten(flat: Tensor, like: Params) -> Params:
    """Cut a vector [P] back into leaves with the names and shapes of ``like``."""
    pieces = torch.split(flat, [leaf.numel() for leaf in like.values()])
    return {
        name: piece.view(leaf.shape)
        for (name, leaf), piece in zip(like.items(), pieces, strict=True)
    }


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products of vectors [..., P], the same bits for any number of threads."""
    # Torch splits a sum over its threads only beyond 32768 terms.
    return torch.stack([piece.sum(-1) for piece in torch.split(a * b, 16384, -1)]).sum(0)


def take_over(current: Params, state: Params, owner: str) -> Params:
    """Return copies of ``state`` in the place of ``current``; raise as ``check_alike`` does."""
    check_alike(current, state, owner)
    return {name: state[name].to(leaf.device, copy=True) for name, leaf in current.items()}


def check_alike(current: Params, state: Params, owner: str) -> None:
    """Check that ``state`` matches ``current`` leaf by leaf, wherever they are.

    Raises:
        InputError: a leaf is missing, unknown, or of another shape or dtype; a line for each.
    """
    wrong = [
        f"{owner}: {name!r} should be {_kind(current, name)}, got {_kind(state, name)}"
        for name in sorted({*current, *state})
        if _kind(current, name) != _kind(state, name)
    ]
    if wrong:
        raise InputError(wrong)


def _kind(params: Params, name: str) -> str:
    if name not in params:
        return "absent"
    leaf = params[name]
    return f"{list(leaf.shape)} {str(leaf.dtype).removeprefix('torch.')}"
