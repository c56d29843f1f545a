"""``metarl scratch``: what learning a test task from nothing achieves, by PPO of Stable-Baselines3.

Each of the first held-out tasks is learned by a run of its own, on E copies of it, in rollouts of
one round: E times the horizon in steps of the environment. After n rollouts it has seen what a
meta-learner sees in n adaptations; from there it goes on to a large budget. The policies are scored
by the evaluator of every agent, each with the starts and the noise of an agent's first round.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from metarl.checkpoint import write_json
from metarl.checks import COUNT, COUNT_OR_ZERO, check_fields
from metarl.experiments.arguments import ResultArgs, parse, plain_console, preset_argument
from metarl.experiments.evaluation.scoring import score_label
from metarl.experiments.experiment import Experiment, build, to_dict
from metarl.runs import Config, system_facts


@dataclass(frozen=True, kw_only=True)
class ScratchRequest:
    """How many tasks are learned from scratch, and how far."""

    tasks: int = 4
    """Held-out tasks, from the first on; each is learned by a run of its own."""
    split: str = "test"
    """Held-out list that they are of."""
    rounds: int = 3
    """Rounds after each of which the policy is scored, as agents are after each adaptation."""
    steps: int = 300_000
    """The large budget: environment steps on each task, in whole rounds."""

    def __post_init__(self) -> None:
        check_fields(self, {"tasks": COUNT, "rounds": COUNT_OR_ZERO, "steps": COUNT})

    def scored_after(self, round_steps: int) -> list[int]:
        """Return after how many rounds policies are scored: 0 to ``rounds``, doubling, the end."""
        last = max(self.rounds, -(-self.steps // round_steps))
        places, further = [*range(self.rounds + 1)], 2 * max(1, self.rounds)
        while further < last:
            places.append(further)
            further *= 2
        return places if places[-1] == last else [*places, last]


@dataclass(frozen=True, kw_only=True)
class ScratchArgs(ScratchRequest, ResultArgs):
    """Learn held-out tasks of a preset from scratch, by PPO of Stable-Baselines3."""

    experiment: Annotated[Experiment, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        ScratchRequest.__post_init__(self)
        ResultArgs.__post_init__(self)


def scratch_command(arguments: Sequence[str]) -> int:
    """Run ``metarl scratch PRESET [flags]``."""
    experiment, flags = preset_argument("scratch", arguments)
    default = ScratchArgs(experiment=experiment)
    args = parse(ScratchArgs, flags, f"scratch {experiment.preset}", default)
    result = scratch(args.experiment, args, plain_console(stderr=True))
    if args.out is not None:
        write_json(args.out, result)
    if args.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        _print(result, plain_console())
    return 0


def scratch(experiment: Experiment, request: ScratchRequest, notes: Console) -> Config:
    """Learn tasks one after the other; return what ``metarl evaluate --references`` reads.

    Args:
        experiment: its environment, number of episodes, seed and threads count; of its agent only
            what a score of it is. A single task need not be told: ``told`` does not count.
        request: how many tasks, and how far.
        notes: told of every task that was learned.

    Raises:
        InputError: there is no such list, it is shorter, or a round is a single step.
    """
    from metarl.experiments.scratch_ppo import learn_from_scratch  # noqa: PLC0415  loads SB3: seconds

    experiment = replace(experiment, told=False)
    parts = build(experiment)
    tasks = parts.distribution.held_out(request.tasks, request.split)
    round_steps = experiment.episodes * parts.env.spec.horizon
    scored_after = request.scored_after(round_steps)
    facts, began = system_facts(), time.monotonic()
    per_task = []
    for row in range(request.tasks):
        per_task.append(learn_from_scratch(experiment, parts, tasks, row, scored_after))
        first, last = per_task[-1][0], per_task[-1][-1]
        notes.print(f"task {row + 1} of {request.tasks}: {first:.2f} at first, {last:.2f} at last")
    columns = zip(*per_task, strict=True)
    return {
        "reference": "from scratch",
        "learner": "PPO of Stable-Baselines3",
        "preset": experiment.preset,
        "env": to_dict(experiment)["env"],
        "split": request.split,
        "episodes": experiment.episodes,
        "score": score_label(parts),
        "seed": experiment.seed,
        "rounds": scored_after,
        "env_steps": [number * round_steps for number in scored_after],
        "mean": [sum(column) / len(column) for column in columns],
        "per_task": per_task,
        "wall_s": time.monotonic() - began,
        "system": facts,
    }


def _print(result: Config, console: Console) -> None:
    per_task: list[list[float]] = result["per_task"]  # type: ignore[assignment]
    title = f"{result['score']}, learned from scratch by {result['learner']}"
    table = Table(title=title)
    for name in ("rounds", "env steps", "mean", *(f"task {row}" for row in range(len(per_task)))):
        table.add_column(name, justify="right")
    numbers = zip(result["rounds"], result["env_steps"], result["mean"], *per_task, strict=True)  # type: ignore[call-overload]
    for rounds, env_steps, *scores in numbers:
        table.add_row(str(rounds), f"{env_steps:,}", *(f"{score:.2f}" for score in scores))
    console.print(table)
