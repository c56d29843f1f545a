"""What was published, as rows that a run of ours can be held to.

A row is the mean score of one of our presets after some adaptations beside the number in the paper.
``error`` is the standard error of the published number, where it is known or follows from its
number of instances; 0 where nothing is known of it, so that only our own interval counts.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Claim(NamedTuple):
    """One published number."""

    preset: str
    adaptations: int
    """After how many; for agents with memory 0 is the first episode of a trial."""
    published: float
    error: float
    """Its standard error, 0 where unknown."""
    source: str


class Protocol(NamedTuple):
    """How the runs of one preset are evaluated."""

    tasks: int
    """Held-out tasks."""
    adaptations: int | None = None
    """None for those of `metarl evaluate`."""
    ceilings: bool = False
    """Whether what can be reached is computed beside it."""


class Publication(NamedTuple):
    """A published experiment: which presets are run, how, and what should come out."""

    title: str
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    claims: tuple[Claim, ...]
    quick_iterations: int
    """Meta-iterations of ``--quick``: minutes, and no more than a sign of life."""
    protocol: Protocol
    notes: tuple[str, ...] = ()
    """Where our setting is known to differ."""


def _curve(preset: str, returns: tuple[float, ...], source: str) -> tuple[Claim, ...]:
    """Return the rows of a published adaptation curve."""
    return tuple(Claim(preset, number, value, 0.0, source) for number, value in enumerate(returns))


_FINN = "Finn et al. 2017, appendix A.2"
_PROMP = "Rothfuss et al. 2019, read off fig. 2"
_PUBLIC_MAML = "a public MAML-TRPO, 300 iterations"
# Standard errors of means over 1000 instances, from the spread of our own 50,000.
_TEN_PULLS, _HUNDRED_PULLS = 0.07, 0.5

PUBLICATIONS: Mapping[str, Publication] = {
    "maml-2017-point": Publication(
        title="MAML on 2-D navigation",
        presets=("maml-trpo/navigation",),
        seeds=(1, 2, 3),
        claims=_curve("maml-trpo/navigation", (-40.41, -11.68, -3.33, -3.23), _FINN),
        quick_iterations=20,
        protocol=Protocol(tasks=40, adaptations=3),
        notes=("the paper chose the best of up to 500 iterations; ours is the last of 100",),
    ),
    "maml-2017-cheetah-dir": Publication(
        title="MAML on half-cheetah, forwards or backwards",
        presets=("maml-trpo/half-cheetah-dir@maml-2017",),
        seeds=(1, 2, 3),
        claims=_curve(
            "maml-trpo/half-cheetah-dir@maml-2017", (-50.69, 293.19, 313.48, 315.65), _FINN
        ),
        quick_iterations=10,
        protocol=Protocol(tasks=40, adaptations=3),
        notes=("the physics is that of a later MuJoCo than the paper's",),
    ),
    "rl2-2016-bandits": Publication(
        title="RL^2 and MAML on Bernoulli bandits with five arms",
        presets=(
            "rl2/bandit",
            "rl2/bandit-n100",
            "maml-trpo/bandit",
            "maml-trpo/bandit-n100",
        ),
        seeds=(1,),
        claims=(
            Claim("rl2/bandit", 0, 6.7, _TEN_PULLS, "Duan et al. 2016, table 1"),
            Claim("rl2/bandit-n100", 0, 78.7, _HUNDRED_PULLS, "Duan et al. 2016, table 1"),
            Claim("maml-trpo/bandit", 1, 6.5, _TEN_PULLS, "Mishra et al. 2018, table 3"),
            Claim("maml-trpo/bandit-n100", 1, 67.1, _HUNDRED_PULLS, "Mishra et al. 2018, table 3"),
        ),
        quick_iterations=60,
        protocol=Protocol(tasks=50_000, ceilings=True),
        notes=("our MAML is scored on fresh pulls after those that it adapted to",),
    ),
    "promp-2019-cheetah-dir": Publication(
        title="ProMP and MAML-TRPO on half-cheetah direction",
        presets=("promp/half-cheetah-dir", "maml-trpo/half-cheetah-dir"),
        seeds=(1, 2, 3),
        claims=(
            Claim("promp/half-cheetah-dir", 1, 500.0, 0.0, _PROMP),
            Claim("maml-trpo/half-cheetah-dir", 1, 260.0, 0.0, _PUBLIC_MAML),
            Claim("maml-trpo/half-cheetah-dir", 3, 405.0, 0.0, _PUBLIC_MAML),
        ),
        quick_iterations=10,
        protocol=Protocol(tasks=40, adaptations=3),
        notes=(
            "figures of the paper are curves only: 500 is the least that they show at their end",
        ),
    ),
}
