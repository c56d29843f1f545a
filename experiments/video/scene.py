"""One held-out task, met by a run's agent as in evaluation: what videos show."""

import hashlib
import itertools
import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro
from rich.console import Console

from metarl import envs
from metarl.checks import COUNT_OR_ZERO, InputError, check_fields
from metarl.envs.task_dicts import as_dicts, from_dicts
from metarl.experiments.evaluation.scoring import EVALUATION_STREAMS, load_run
from metarl.experiments.experiment import Experiment, Parts
from metarl.protocols import CanClose, CanDrawPaths, HasMemory, TaskDistribution
from metarl.runs import Config
from metarl.sampler import adaptation_rounds, scores
from metarl.seeding import Streams
from metarl.types import Tasks, Trajectories

_MOST_PANELS = 8
_LAST_INDEX = 9999
"""Of a held-out list that goes on as far as anyone asks."""
_LONGEST_PARAMETER = 3  # numbers that a title can hold


@dataclass(frozen=True, kw_only=True)
class SceneArgs:
    """Which task, and after how many adaptations."""

    run_dir: tyro.conf.Positional[Path]
    """Folder of the run."""
    task: str = "0"
    """Place in the list of held-out tasks; or a task as JSON, such as '{"velocity": 1.5}'."""
    adaptations: str = ""
    """Numbers of adaptations with commas between them, one for each panel; left out, 0,1,3, or for
    agents with memory the first and the last episode of a trial, which are counted from 0."""
    episode: int = 0
    """Which of the task's episodes is shown in every panel; for agents with memory, which trial."""
    best: bool = False
    """Take the weights that were best in validation instead of the last ones."""

    def __post_init__(self) -> None:
        check_fields(self, {"episode": COUNT_OR_ZERO})
        numbers_of(self.adaptations)


class Scene(NamedTuple):
    """A task and what happened in it."""

    experiment: Experiment
    tasks: Tasks
    """Of length 1."""
    label: str
    """What the task is called in names of files."""
    title: str
    streams: Streams
    """Those of ``adaptation_rounds``."""
    rounds: Sequence[Trajectories]
    """Round i was met after i adaptations."""
    shown: tuple[int, ...]
    """Numbers of the rounds that are shown."""
    captions: tuple[str, ...]
    """A few words for each of them."""
    scores: tuple[float, ...]
    """Their scores, as evaluation has them."""
    episode: int


def numbers_of(text: str) -> tuple[int, ...]:
    """Read numbers of adaptations from a text such as ``0,1,3``.

    Raises:
        InputError: they are no whole numbers, do not ascend, or are too many to show.
    """
    if not text:
        return ()
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.strip().isdecimal() and len(part) < 10]
    ascend = all(low < high for low, high in itertools.pairwise(numbers))
    if len(numbers) < len(parts) or not ascend or len(parts) > _MOST_PANELS:
        need = f"up to {_MOST_PANELS} ascending whole numbers with commas between them, as in 0,1,3"
        raise InputError([f"--adaptations must be {need}; got {reprlib.repr(text)}"])
    return tuple(numbers)


def open_scene(args: SceneArgs, warn: Console) -> Scene:
    """Load a run and let its agent meet the task, with the starts and the noise of evaluation.

    Raises:
        InputError: there is no such run, task or episode, or its environment cannot be drawn.
        CannotDrawError: there is nothing to draw with here.
    """
    place = "best" if args.best else "checkpoints"
    machine: Config = {"device": "cpu", "threads": 1}
    experiment, parts, _ = load_run(args.run_dir, place, machine, warn)
    if args.episode >= experiment.episodes:
        allowed = f"from 0 to {experiment.episodes - 1}, as the run has so many of a task"
        raise InputError([f"--episode must be {allowed}; got {args.episode}"])
    tasks, slot, label = _task(args.task, parts)
    _try_to_draw(experiment, tasks)
    memory = isinstance(parts.agent, HasMemory)
    shown = numbers_of(args.adaptations) or _usual(experiment, memory)
    streams = EVALUATION_STREAMS.from_task(slot)
    met = adaptation_rounds(parts.env, tasks, parts.agent, experiment.episodes, shown[-1], streams)
    rounds = [batch for batch, _ in met]
    per_round = [float(scores(rounds[number], parts.env.spec)) for number in shown]
    return Scene(
        experiment,
        tasks,
        label,
        f"{experiment.preset}, {_words(tasks, label)}",
        streams,
        rounds,
        shown,
        tuple(_caption(number, memory) for number in shown),
        tuple(per_round),
        args.episode,
    )


def drawable(experiment: Experiment) -> tuple[TaskDistribution, CanDrawPaths]:
    """Build an experiment's environment to be looked at, without what tells its tasks.

    Raises:
        InputError: it has no pictures.
    """
    name = envs.name_of(experiment.env)
    distribution, env = envs.build(name, experiment.env, threads=1)
    if not isinstance(env, CanDrawPaths):
        raise InputError([f"{name} cannot be drawn: what happens in it has no place in space"])
    return distribution, env


def _try_to_draw(experiment: Experiment, tasks: Tasks) -> None:
    """Draw a start: what cannot be drawn is refused before anything else is done."""
    _, env = drawable(experiment)
    env.reset(tasks, 1, EVALUATION_STREAMS)
    env.picture(0, 0)
    if isinstance(env, CanClose):
        env.close()


def _usual(experiment: Experiment, memory: bool) -> tuple[int, ...]:
    """Return the rounds that are shown where nothing is said."""
    return tuple(sorted({0, experiment.adaptations})) if memory else (0, 1, 3)


def _task(text: str, parts: Parts) -> tuple[Tasks, int, str]:
    """Return the task that the user names, its slot in the streams, and what to call it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError([f"--task is not JSON: {error}; got {reprlib.repr(text)}"]) from None
    if isinstance(value, dict):
        tasks = from_dicts(parts.env.spec.name, parts.distribution.parameters, [value])
        told = json.dumps(as_dicts(tasks)[0], sort_keys=True)
        return tasks, 0, f"task-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    length = parts.distribution.held_out_lists["test"]
    last = _LAST_INDEX if length is None else length - 1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= last:
        need = f"a whole number from 0 to {last}, or a task as a JSON object"
        raise InputError([f"--task must be {need}; got {reprlib.repr(text)}"])
    return parts.distribution.held_out(value + 1).take(slice(value, None)), value, f"task{value}"


def _words(tasks: Tasks, label: str) -> str:
    """Say which task it is, with those of its parameters that are short."""
    short = {
        name: leaf.flatten().tolist()
        for name, leaf in tasks.parameter.items()
        if leaf.numel() <= _LONGEST_PARAMETER
    }
    values = [f"{name} {', '.join(f'{x:.3g}' for x in leaf)}" for name, leaf in short.items()]
    return "; ".join((label.replace("task", "task ", 1).replace(" -", " "), *values))


def _caption(number: int, memory: bool) -> str:
    if memory:
        return f"episode {number + 1} of the trial"
    return f"after {number} adaptation{'' if number == 1 else 's'}"
