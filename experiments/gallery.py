"""``metarl gallery``: one page for each file of environments, made from the code.

A page holds the contract (the file's docstring), what the tasks' parameters may be, every published
setting, what can be reached, and a picture where the environment can be drawn. A file without
environments has a page where a contract names it.
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from metarl import envs
from metarl.checks import COUNT, InputError, check_fields
from metarl.experiments.arguments import parse, plain_console
from metarl.experiments.gallery_text import contract_text, markdown_table, named_modules
from metarl.protocols import CanDraw, TaskDistribution, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Tasks

_STREAMS = Streams(0, ("gallery",))
_STEPS_BEFORE_A_PICTURE = 10
_ANY_NUMBER = 1e6  # bounds of this size are there to catch mistakes
_LONGEST_CELL = 24  # characters

_Built: TypeAlias = Mapping[str, tuple[TaskDistribution, VectorTaskEnv]]
"""What is built of each preset."""


@dataclass(frozen=True, kw_only=True)
class GalleryArgs:
    """Write one page for each family of environments, with pictures."""

    out: Path
    """Folder of the pages; it is made where it is missing."""
    pictures: bool = True
    """Draw the environments that can be drawn."""
    ceiling_tasks: int = 1000
    """Held-out tasks over which ceilings are averaged."""

    def __post_init__(self) -> None:
        check_fields(self, {"ceiling_tasks": COUNT})
        if self.out.is_file():
            raise InputError([f"--out must be a folder, got the file {self.out}"])


class Page(NamedTuple):
    """What a page is about: the environments of one file."""

    module: str
    """Last part of the file's import name."""
    contract: str
    """The file's docstring."""
    names: tuple[str, ...]
    """Environments that the file builds; none where other contracts only name the file."""


def gallery_command(arguments: Sequence[str]) -> int:
    """Run ``metarl gallery --out DIR [flags]``."""
    args = parse(GalleryArgs, arguments, "gallery")
    args.out.mkdir(parents=True, exist_ok=True)
    notes = plain_console(stderr=True)
    for page in pages():
        pictures = draw(page, args.out) if args.pictures else known_pictures(page, args.out)
        text = page_text(page, pictures, args.ceiling_tasks)
        (args.out / f"{page.module}.md").write_text(text, encoding="utf-8")
        notes.print(f"wrote {args.out / page.module}.md")
    (args.out / "README.md").write_text(index_text(), encoding="utf-8")
    return 0


def pages() -> list[Page]:
    """Return a page for each file that builds environments, in the order of the table.

    After them come the files that contracts name.
    """
    by_module: dict[str, list[str]] = {}
    for name, family in envs.ENVS.items():
        by_module.setdefault(family.build.__module__, []).append(name)
    found: dict[str, Page] = {}
    wanted = list(by_module)
    for module in wanted:  # grows on the way
        if module not in found:
            contract = importlib.import_module(module).__doc__ or ""
            names = tuple(by_module.get(module, ()))
            found[module] = Page(module.rsplit(".", 1)[-1], contract, names)
            wanted += [f"{envs.__name__}.{other}" for other in named_modules(contract)]
    return list(found.values())


def index_text() -> str:
    """Return the page that lists all pages."""
    rows = [
        (
            f"[{short(name)}]({page.module}.md)",
            envs.ENVS[name].summary,
            ", ".join(envs.ENVS[name].presets),
        )
        for page in pages()
        for name in page.names
    ]
    table = markdown_table(("environment", "task", "presets"), rows)
    others = "".join(
        f"- [{page.module}]({page.module}.md): {page.contract.partition(chr(10))[0]}\n"
        for page in pages()
        if not page.names
    )
    made = "Made from the code by `metarl gallery --out docs/envs`."
    return f"# Environments\n\n{made}\n\n{table}\nWhat these pages refer to:\n\n{others}"


def page_text(page: Page, pictures: Mapping[str, str], ceiling_tasks: int) -> str:
    """Return a page; ``pictures`` are file names by environment."""
    parts = [contract_text(page.contract)]
    for name in page.names:
        parts.append(f"## {short(name)}\n\n`{name}`: {envs.ENVS[name].summary}.")
        if name in pictures:
            parts.append(f"![{short(name)}]({pictures[name]})")
        presets = envs.ENVS[name].presets
        built = {preset: envs.build(name, presets[preset], threads=1) for preset in presets}
        parts += [_parameters(built), _settings(name, built), _ceilings(name, ceiling_tasks)]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def short(name: str) -> str:
    """Return a registered name without its namespace."""
    return name.removeprefix("metarl/")


def _parameters(built: _Built) -> str:
    """Return what tasks are made of: a table for all presets, or one for each that differs."""
    presets: dict[tuple[str, ...], list[str]] = {}
    for preset, (tasks, _) in built.items():
        rows = [
            (f"`{key}`", about.text, about.unit, _shape(about), _range(about))
            for key, about in tasks.parameters.items()
        ]
        table = markdown_table(("task parameter", "what", "unit", "shape", "range"), rows)
        presets.setdefault((", ".join(("train", *tasks.held_out_lists)), table), []).append(preset)
    parts = []
    for (splits, table), names in presets.items():
        whose = "" if len(presets) == 1 else f" with {', '.join(f'`{name}`' for name in names)}"
        parts.append(f"Tasks{whose}; a range covers all splits ({splits}):\n\n{table}")
    return "\n".join(parts)


def _shape(about: Parameter) -> str:
    return " x ".join("any" if length is None else str(length) for length in about.shape) or "one"


def _range(about: Parameter) -> str:
    if about.values:
        return f"one of {', '.join(f'{value:g}' for value in about.values)}"
    if -about.low == about.high >= _ANY_NUMBER:
        return "any number"
    return f"{about.low:g} to {about.high:g}"


def _settings(name: str, built: _Built) -> str:
    """Return a table with a column for each preset."""
    family = envs.ENVS[name]
    configs = family.presets
    rows: list[tuple[str, ...]] = [
        (f"`{field.name}`", *(_cell(getattr(config, field.name)) for config in configs.values()))
        for field in dataclasses.fields(family.config)
    ]
    specs = [env.spec for _, env in built.values()]
    rows.append(("observation", *(str(spec.observation_size) for spec in specs)))
    rows.append(("action", *(_action(spec) for spec in specs)))
    rows.append(("held out", *(_lists(tasks.held_out_lists) for tasks, _ in built.values())))
    return markdown_table(("setting", *configs), rows)


def _cell(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 3]}..."


def _action(spec: EnvSpec) -> str:
    return f"1 of {spec.action_size}" if spec.discrete else f"{spec.action_size} numbers"


def _lists(lists: Mapping[str, int | None]) -> str:
    return ", ".join(
        split if length is None else f"{split} ({length})" for split, length in lists.items()
    )


def _ceilings(name: str, num_tasks: int) -> str:
    """Return what can be reached in a trial of the default setting, averaged over tasks."""
    family = envs.ENVS[name]
    if not family.ceilings:
        return ""
    config: Any = envs.preset(name)
    tasks, whose = _whole_rounds(envs.build(name, config, threads=1)[0], num_tasks)
    trial = family.trial
    rows = [
        (who, *(f"{value:.3g}" for value in returns.double().mean(0)[[0, -1]].tolist()))
        for who, returns in (
            (who, ceiling(config, tasks, trial, _STREAMS))
            for who, ceiling in family.ceilings.items()
        )
    ]
    where = f"`{next(iter(family.presets))}` in a trial of {trial} episodes"
    note = f"What can be reached with {where}, means over {whose}:"
    table = markdown_table(("who", "return of episode 1", f"of episode {trial}"), rows)
    return f"{note}\n\n{table}"


def _whole_rounds(distribution: TaskDistribution, num_tasks: int) -> tuple[Tasks, str]:
    """Return about so many test tasks, and how to call them.

    Of a list that comes round again, whole rounds are taken: every task counts the same.
    """
    num_tasks = min(num_tasks, distribution.held_out_lists["test"] or num_tasks)
    tasks = distribution.held_out(num_tasks)
    number = len(set(tasks.task_id.tolist()))
    if bool((tasks.task_id < 0).any()) or number == num_tasks:
        return tasks, f"{num_tasks} held-out tasks"
    rounds = num_tasks // number
    return tasks.take(slice(rounds * number)), f"{rounds} rounds of all {number} held-out tasks"


def known_pictures(page: Page, folder: Path) -> dict[str, str]:
    """Return the pictures that a folder holds, by environment."""
    files = {name: f"{short(name)}.png" for name in page.names}
    return {name: file for name, file in files.items() if (folder / file).is_file()}


def draw(page: Page, folder: Path) -> dict[str, str]:
    """Draw the environments of a page that can be drawn; return file names."""
    from matplotlib import image  # noqa: PLC0415  so that importing the command line stays light

    drawn = {}
    for name in page.names:
        distribution, env = envs.build(name, threads=1)
        if isinstance(env, CanDraw):
            _walk(env, distribution.held_out(1))
            drawn[name] = f"{short(name)}.png"
            image.imsave(folder / drawn[name], env.picture(0, 0))
    return drawn


def _walk(env: VectorTaskEnv, tasks: Tasks) -> None:
    """Take a few random steps, so that a picture shows more than a start."""
    spec = env.spec
    env.reset(tasks, 1, _STREAMS)
    shape = (1, _STEPS_BEFORE_A_PICTURE)
    noise = _STREAMS.uniform("action", 1, shape if spec.discrete else (*shape, spec.action_size))
    running = torch.ones(1, 1, dtype=torch.bool)
    for now in noise.unbind(2):
        action = (now * spec.action_size).long() if spec.discrete else 2.0 * now - 1.0
        env.step(action if spec.discrete else action * spec.action_limit, running)
