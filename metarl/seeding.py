"""Named random streams: every number is a function of (seed, path, purpose, task, place).

Streams are keyed, not stateful. They are built on the counter-based generator Philox4x32-10 (Salmon
et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), written in integer tensor operations so
that the same bits come out on every device and for any way of splitting K tasks into blocks.
"""

import hashlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> Tensor:
    """Philox4x32-10: four 32-bit counter words and two key words to four random words.

    Words are held in int64 tensors of one common shape [...]; returns [..., 4] int64 in [0, 2^32).
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = ((product1 >> 32) & _LOW) ^ c1 ^ k0
        c2 = ((product0 >> 32) & _LOW) ^ c3 ^ k1
        c1, c3 = product1 & _LOW, product0 & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & _LOW, (k1 + _KEY_STEPS[1]) & _LOW
    return torch.stack((c0, c1, c2, c3), dim=-1)


class Streams(NamedTuple):
    """A place in the tree of random streams.

    ``at`` goes deeper; ``uniform`` and ``normal`` draw for K tasks at once. ``first_task`` is the
    slot of the first of those tasks, so that a block of tasks draws what it draws in the whole.
    """

    seed: int
    path: tuple[str | int, ...] = ()
    first_task: int = 0
    device: str = "cpu"

    def at(self, *names: str | int) -> "Streams":
        """Return the streams below this place, under ``names``."""
        return self._replace(path=self.path + names)

    def from_task(self, first_task: int) -> "Streams":
        """Return the same streams for a block of tasks that starts at slot ``first_task``."""
        return self._replace(first_task=self.first_task + first_task)

    def uniform(self, purpose: str, num_tasks: int, shape: tuple[int, ...]) -> Tensor:
        """Draw from U[0, 1), as ``[K, *shape]`` float32."""
        size = math.prod(shape)
        words = self._words(f"uniform {purpose}", num_tasks, (size + 3) // 4)
        bits = words.flatten(1)[:, :size]
        return ((bits >> 8).to(torch.float32) * 2.0**-24).reshape(num_tasks, *shape)

    def normal(self, purpose: str, num_tasks: int, shape: tuple[int, ...]) -> Tensor:
        """Draw from N(0, 1) by the Box-Muller transform, as ``[K, *shape]`` float32.

        The transform is done in float64 and rounded once: in float32, the last bits of a logarithm
        or a cosine depend on the processor's instruction set.
        """
        size = math.prod(shape)
        words = self._words(f"normal {purpose}", num_tasks, (size + 3) // 4).to(torch.float64)
        # The first word is shifted to (0, 1]: its logarithm must be finite.
        radius = torch.sqrt(-2.0 * torch.log((words[..., :2] + 1.0) * 2.0**-32))
        angle = words[..., 2:] * (2.0 * math.pi * 2.0**-32)
        pairs = torch.cat((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
        return pairs.flatten(1)[:, :size].reshape(num_tasks, *shape).to(torch.float32)

    def gamma(self, purpose: str, concentration: Tensor) -> Tensor:
        """Draw from Gamma(concentration, 1) for each entry of [K, ...], as float64 of that shape.

        Two neighbours share one Philox block, two normals and two uniforms, for the rejection
        method of Marsaglia and Tsang (2000), "A simple method for generating gamma variables". A
        pair that is rejected takes the next block in a direction of the counter that nothing else
        uses.

        Raises:
            ValueError: a concentration is below 1, where the method does not hold.
        """
        if not bool((concentration >= 1.0).all()):
            raise ValueError(f"concentrations must be >= 1, got {float(concentration.min())}")
        num_tasks = len(concentration)
        flat = concentration.reshape(num_tasks, -1).to(torch.float64)
        size = flat.shape[1]
        pairs = torch.nn.functional.pad(flat, (0, size % 2), value=1.0).view(-1, 2)
        result = torch.empty_like(pairs)
        pending = torch.arange(len(pairs), device=flat.device)
        per_task, attempt = (size + 1) // 2, 0
        while len(pending):
            task = pending // per_task + self.first_task
            words = self._block(f"gamma {purpose}", pending % per_task, task, attempt)
            drawn, accepted = _propose_gamma(pairs[pending], words)
            result[pending] = drawn
            pending, attempt = pending[~accepted], attempt + 1
        return result.view(num_tasks, -1)[:, :size].reshape(concentration.shape)

    def _words(self, purpose: str, num_tasks: int, num_blocks: int) -> Tensor:
        """Return [K, num_blocks, 4] random 32-bit words."""
        block = torch.arange(num_blocks, device=self.device).expand(num_tasks, -1)
        task = torch.arange(num_tasks, device=self.device)[:, None] + self.first_task
        return self._block(purpose, block, task.expand(-1, num_blocks), 0)

    def _block(self, purpose: str, block: Tensor, task: Tensor, attempt: int) -> Tensor:
        """Return [..., 4] random 32-bit words for blocks [...] of tasks [...]."""
        # Whole numbers of any type name the same stream.
        names = [name if isinstance(name, str) else int(name) for name in (self.seed, *self.path)]
        digest = hashlib.blake2b(repr((*names, purpose)).encode(), digest_size=8).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
        return philox((block, task & _LOW, task >> 32, torch.full_like(block, attempt)), key)


def _propose_gamma(concentration: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return proposals [N, 2] for pairs of concentrations, and whether [N] both are accepted."""
    unit = (words.to(torch.float64) + 0.5) * 2.0**-32
    radius, angle = torch.sqrt(-2.0 * torch.log(unit[:, 0])), 2.0 * math.pi * unit[:, 1]
    normal = radius[:, None] * torch.stack((torch.cos(angle), torch.sin(angle)), -1)
    shift = concentration - 1.0 / 3.0
    root = 1.0 + normal / torch.sqrt(9.0 * shift)
    cube = root**3
    bound = 0.5 * normal**2 + shift * (1.0 - cube + torch.log(cube.clamp_min(1e-300)))
    accepted = (root > 0.0) & (torch.log(unit[:, 2:]) < bound)
    return shift * cube, accepted.all(-1)
