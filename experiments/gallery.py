"""``metarl gallery``: one page for each file of environments, made from the code.

A page holds the contract (the file's docstring), what the tasks' parameters may be, every published
setting, what can be reached, and a picture where the environment can be drawn.
"""

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib import image

from metarl import envs
from metarl.checks import COUNT, InputError, check_fields
from metarl.experiments.arguments import parse, plain_console
from metarl.protocols import CanDraw, VectorTaskEnv
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Tasks

_STREAMS = Streams(0, ("gallery",))
_STEPS_BEFORE_A_PICTURE = 10


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
    """Return a page for each file that builds environments, in the order of the table."""
    by_module: dict[str, list[str]] = {}
    for name, family in envs.ENVS.items():
        by_module.setdefault(family.build.__module__, []).append(name)
    return [
        Page(module.rsplit(".", 1)[-1], sys.modules[module].__doc__ or "", tuple(names))
        for module, names in by_module.items()
    ]


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
    return f"# Environments\n\nMade from the code by `metarl gallery --out docs/envs`.\n\n{table}"


def page_text(page: Page, pictures: Mapping[str, str], ceiling_tasks: int) -> str:
    """Return a page; ``pictures`` are file names by environment."""
    parts = [contract_text(page.contract)]
    for name in page.names:
        parts.append(f"## {short(name)}\n\n`{name}`: {envs.ENVS[name].summary}.")
        if name in pictures:
            parts.append(f"![{short(name)}]({pictures[name]})")
        parts += [_parameters(name), _settings(name), _ceilings(name, ceiling_tasks)]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def contract_text(docstring: str) -> str:
    """Turn a contract into Markdown: a title, leads in bold, tables as Markdown tables."""
    title, _, body = docstring.strip().partition("\n")
    blocks = [block for block in body.strip().split("\n\n") if block.strip()]
    return "\n\n".join([f"# {title.rstrip('.')}", *map(_block, blocks)])


def _block(block: str) -> str:
    lines = block.split("\n")
    if lines[0].startswith("==="):
        return _simple_table(lines)
    lead, point, rest = block.partition(". ")
    if point and len(lead.split()) <= 4 and lead[0].isupper():
        block = f"**{lead}.** {rest}"
    return block.replace("``", "`")


def _simple_table(lines: Sequence[str]) -> str:
    """Turn a table whose columns are underlined by ``===`` into a Markdown table."""
    starts = [
        place
        for place, mark in enumerate(lines[0])
        if mark == "=" and (place == 0 or lines[0][place - 1] == " ")
    ]
    ends = [*starts[1:], None]
    rows = [
        tuple(
            line[start:end].strip().replace("``", "`")
            for start, end in zip(starts, ends, strict=True)
        )
        for line in lines
        if not line.startswith("===")
    ]
    return markdown_table(rows[0], rows[1:]).rstrip()


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


def short(name: str) -> str:
    """Return a registered name without its namespace."""
    return name.removeprefix("metarl/")


def _parameters(name: str) -> str:
    distribution, _ = envs.build(name, threads=1)
    rows = [
        (f"`{key}`", about.text, about.unit, _shape(about), _range(about))
        for key, about in distribution.parameters.items()
    ]
    return markdown_table(("task parameter", "what", "unit", "shape", "range"), rows)


def _shape(about: Parameter) -> str:
    return " x ".join("any" if length is None else str(length) for length in about.shape) or "one"


def _range(about: Parameter) -> str:
    if about.values:
        return " or ".join(f"{value:g}" for value in about.values)
    return f"{about.low:g} to {about.high:g}"


def _settings(name: str) -> str:
    """Return a table with a column for each preset."""
    family = envs.ENVS[name]
    configs = family.presets
    parts = {preset: envs.build(name, config, threads=1) for preset, config in configs.items()}
    rows: list[tuple[str, ...]] = [
        (f"`{field.name}`", *(_cell(getattr(config, field.name)) for config in configs.values()))
        for field in dataclasses.fields(family.config)
    ]
    specs = [env.spec for _, env in parts.values()]
    rows.append(("observation", *(str(spec.observation_size) for spec in specs)))
    rows.append(("action", *(_action(spec) for spec in specs)))
    rows.append(("held out", *(_lists(tasks.held_out_lists) for tasks, _ in parts.values())))
    return markdown_table(("setting", *configs), rows)


def _cell(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _action(spec: EnvSpec) -> str:
    return f"1 of {spec.action_size}" if spec.discrete else f"{spec.action_size} numbers"


def _lists(lists: Mapping[str, int | None]) -> str:
    return ", ".join(
        split if length is None else f"{split} ({length})" for split, length in lists.items()
    )


def _ceilings(name: str, num_tasks: int) -> str:
    """Return what can be reached in one episode of the default setting, averaged over tasks."""
    family = envs.ENVS[name]
    if not family.ceilings:
        return ""
    config: Any = envs.preset(name)
    distribution, _ = envs.build(name, config, threads=1)
    tasks = distribution.held_out(min(num_tasks, distribution.held_out_lists["test"] or num_tasks))
    episodes = 10
    rows = [
        (
            who,
            *(
                f"{value:.3g}"
                for value in ceiling(config, tasks, episodes, _STREAMS)
                .double()
                .mean(0)[[0, episodes - 1]]
                .tolist()
            ),
        )
        for who, ceiling in family.ceilings.items()
    ]
    titles = ("who", "return of episode 1", f"of episode {episodes}")
    preset = next(iter(family.presets))
    note = f"What can be reached with `{preset}`, means over {len(tasks.task_id)} held-out tasks:"
    return f"{note}\n\n{markdown_table(titles, rows)}"


def known_pictures(page: Page, folder: Path) -> dict[str, str]:
    """Return the pictures that a folder holds, by environment."""
    files = {name: f"{short(name)}.png" for name in page.names}
    return {name: file for name, file in files.items() if (folder / file).is_file()}


def draw(page: Page, folder: Path) -> dict[str, str]:
    """Draw the environments of a page that can be drawn; return file names."""
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
