"""A policy that was adapted to one task, as data, and as a folder of two files.

``policy.safetensors`` holds the weights and, where there is a memory, what it held when the policy
was kept (``start.*``, see ``metarl.acting``); ``policy.json`` what they belong to: the network, the
environment's sizes, the range of actions, how the policy was made, and the SHA-256 of the weights.
Nothing of the agent that made it is needed to act.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl import trees
from metarl.acting import ActingPolicy, Moment, build_acting
from metarl.checkpoint import StorageError, write_bytes_atomic, write_json
from metarl.checks import COUNT, COUNT_OR_ZERO, LARGEST, POSITIVE, InputError
from metarl.files import parse_json, parse_tensors, read_regular, refuse, tensors_to_bytes
from metarl.plain_data import plain, read_fields
from metarl.policies import PolicyConfig
from metarl.runs import system_facts
from metarl.seeding import Streams
from metarl.types import ActionRange, EnvSpec, Params

_TENSORS, _ABOUT = "policy.safetensors", "policy.json"
_SCHEMA = 2
_LONGEST_ABOUT, _LONGEST_TENSORS = 1_000_000, 2**32


@dataclass(frozen=True, kw_only=True)
class Made:
    """How an adapted policy came about."""

    agent: str
    """Name of the agent's class, such as ``MamlTrpo``."""
    env: str
    """Name of the environment that it adapted in."""
    task: dict[str, object] | None
    """The task as a dict; None where the environment had one that it does not tell."""
    seed: int
    """Of all that was random in adapting."""
    run: str | None = None
    """Folder of the run whose weights the agent had."""
    episodes: tuple[int, ...] = field(default=())
    """The episodes of each adaptation, in their order."""
    scores: tuple[float, ...] = field(default=())
    """What each of these rounds scored, before its adaptation (``sampler.scores``)."""


class KeptPolicy(NamedTuple):
    """A policy with the weights of one task, and the range in which its actions are given."""

    policy: ActingPolicy
    params: Params
    spec: EnvSpec
    """Of the environment that it was made for."""
    action_range: ActionRange | None
    """None where actions are choices."""

    def first(self, shown: Tensor) -> Moment:
        """Return the moment of the first decision in n copies, where [n, S] is shown."""
        return self.policy.first(self.params, shown)

    def decide(
        self, moment: Moment, noise: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return actions [n, A] within the range, or choices [n]; and what they leave to the next.

        Without noise, the likeliest; else drawn with it: standard normal [n, A], or uniform [n].
        """
        action, carried = self.policy.act(self.params, moment, noise)
        if self.action_range is None:
            return action, carried
        return self.action_range.place(action, self.spec.action_limit), carried


class _About(NamedTuple):
    """What ``policy.json`` holds."""

    schema: int
    memory_size: int
    """Gated recurrent units; 0 where the network sees the observation alone."""
    network: PolicyConfig
    """Layers behind the memory, or the observation."""
    spec: EnvSpec
    action_low: tuple[float, ...] | None
    action_high: tuple[float, ...] | None
    made: Made
    versions: dict[str, object]
    sha256: str


def write_policy(folder: Path, kept: KeptPolicy, made: Made) -> None:
    """Write a policy into a folder, which is made where there is none.

    Raises:
        BrokenFileError: a weight is not finite; nothing is written.
        StorageError: it cannot be written.
    """
    data = tensors_to_bytes(folder / _TENSORS, kept.params)
    within = kept.action_range
    about: dict[str, object] = {
        "schema": _SCHEMA,
        "memory_size": kept.policy.memory_size,
        "network": dataclasses.asdict(kept.policy.head.config),
        "spec": kept.spec._asdict(),
        "action_low": None if within is None else within.low.tolist(),
        "action_high": None if within is None else within.high.tolist(),
        "made": dataclasses.asdict(made),
        "versions": system_facts()["versions"],
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(folder, 0, error) from error
    write_bytes_atomic(folder / _TENSORS, data)
    write_json(folder / _ABOUT, plain(about))


def read_policy(folder: Path) -> tuple[KeptPolicy, Made]:
    """Read what ``write_policy`` wrote, bit for bit, on the CPU.

    Raises:
        BrokenFileError: a file is missing, changed or not of its format.
        InputError: an entry of ``policy.json`` is missing, unknown or not what it may be, or the
            weights are not those of its network; a line for each fault.
    """
    file = folder / _ABOUT
    content = parse_json(file, read_regular(file, 2, _LONGEST_ABOUT))
    if not isinstance(content, Mapping) or content.get("schema") != _SCHEMA:
        refuse(file, f"not a policy of schema {_SCHEMA}, which this version reads")
    try:
        about = read_fields(_About, content)
        if lines := _faults(about):
            raise InputError(lines)
    except InputError as error:
        raise InputError(f"{file}: {line}" for line in error.lines) from None
    data = read_regular(folder / _TENSORS, 8, _LONGEST_TENSORS)
    if hashlib.sha256(data).hexdigest() != about.sha256:
        refuse(folder / _TENSORS, f"SHA-256 is not the one in {_ABOUT}")
    spec = about.spec._replace(action_limit=float(about.spec.action_limit))
    policy = build_acting(spec, about.network, about.memory_size)
    tensors = parse_tensors(folder / _TENSORS, data)
    if policy.num_weights > len(data):
        sizes = [policy.observation_size, *[about.memory_size] * (about.memory_size > 0)]
        sizes += policy.head.layer_sizes[1:]
        came = f"layers of {sizes} have more weights than {_TENSORS} has bytes"
        raise InputError([f"{file}: network: {came}"])
    # The network's own weights say what there must be; whoever wrote the file chose their size, and
    # so they are not drawn.
    own = policy.init(Streams(0, device="meta"))
    trees.check_alike(own, tensors, str(folder / _TENSORS))
    params = {name: tensors[name] for name in own}
    within = None
    if about.action_low is not None and about.action_high is not None:
        within = _range_of(about.action_low, about.action_high)
    return KeptPolicy(policy, params, spec, within), about.made


def _faults(about: _About) -> list[str]:
    """Say which values do not go together, and what is allowed."""
    spec, bounds = about.spec, (about.action_low, about.action_high)
    lines = [
        f"spec.{name} must be {COUNT.text}, got {value!r}"
        for name, value in spec._asdict().items()
        if name in ("observation_size", "action_size", "horizon") and not COUNT.accepts(value)
    ]
    if not COUNT_OR_ZERO.accepts(about.memory_size):
        lines.append(f"memory_size must be {COUNT_OR_ZERO.text}, got {about.memory_size!r}")
    if not POSITIVE.accepts(spec.action_limit) or not np.float32(spec.action_limit) > 0:
        lines.append(f"spec.action_limit must be {POSITIVE.text}, got {spec.action_limit!r}")
    if spec.discrete:
        return lines + (["choices have no action_low, action_high"] if any(bounds) else [])
    low, high = (bound or () for bound in bounds)
    # In float32, in which they are used, two bounds may be the same, or too far apart.
    if not (
        len(low) == len(high) == spec.action_size
        and all(abs(bound) < LARGEST for bound in low + high)
        and _is_range(_range_of(low, high))
    ):
        need = f"{spec.action_size} finite numbers, each below its like and at a finite distance"
        came = f"{list(low)}, {list(high)}"
        lines.append(f"action_low and action_high must be {need}, in float32; got {came}")
    return lines


def _is_range(within: ActionRange) -> bool:
    ends = within.place(torch.tensor([[-1.0], [1.0]]), 1.0)
    return bool((within.low < within.high).all() and ends.isfinite().all())


def _range_of(low: Sequence[float], high: Sequence[float]) -> ActionRange:
    # JSON may hold whole numbers beyond what torch takes for one.
    return ActionRange(*(torch.tensor([float(bound) for bound in end]) for end in (low, high)))
