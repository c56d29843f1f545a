"""Muon: steps along orthogonal matrices (Jordan et al. 2024).

For a matrix of weights [m, n] and its gradients G, with the momentum M <- 0.95 M + 0.05 G and, in
Nesterov's form, N = 0.05 G + 0.95 M, where N = U S V^T, a step of size eta goes down

    eta 0.2 sqrt(max(m, n)) O,    O ~ U V^T.

Whatever its singular value, every direction moves as far: what few samples tell of, such as one of
many states, as far as what all of them do. The factor is that of Liu et al. 2025 ("Muon is Scalable
for LLM Training"), with which step sizes of Adam serve Muon too. Weights do not decay. Unlike the
authors', who leave the first and the last layer to Adam, it is used for every matrix.

O comes from five iterations of Newton and Schulz with the authors' coefficients, which bring
singular values to between 0.7 and 1.2, also of directions a hundredth as strong as N as a whole.
``torch.optim.Muon`` computes it in bfloat16: two runs whose gradients differ in their last bits,
because they add them up in another order, soon differ by a thousandth, and directions of a
thousandth of the strength come with a third of noise. Here it is float32, and runs stay as close
as with Adam.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

MOMENTUM = 0.95
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """Moves matrices, and owns their momenta.

    Args:
        matrices: weights [k m, n], each with the number k of matrices that it holds one below the
            other; each of these is moved by itself.
        lr: eta.
    """

    def __init__(self, matrices: Iterable[tuple[Tensor, int]], lr: float) -> None:
        groups = [{"params": [leaf], "stacked": number} for leaf, number in matrices]
        super().__init__(groups, {"lr": lr, "stacked": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step down the gradients."""
        for group in self.param_groups:
            (leaf,) = group["params"]
            state = self.state[leaf]
            if not state:
                state["momentum"] = torch.zeros_like(leaf)
            momentum = state["momentum"].lerp_(leaf.grad, 1.0 - MOMENTUM)
            ahead = leaf.grad.lerp(momentum, MOMENTUM).unflatten(0, (group["stacked"], -1))
            length = 0.2 * max(ahead.shape[1:]) ** 0.5
            leaf.sub_(orthogonal(ahead).flatten(0, 1), alpha=group["lr"] * length)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices [..., m, n] with the same singular vectors, and singular values near 1."""
    a, b, c = _COEFFICIENTS
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    norm: Tensor = torch.linalg.matrix_norm(matrices, keepdim=True)
    x = matrices / norm.clamp(min=_LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
