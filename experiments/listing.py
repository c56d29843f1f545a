"""``metarl list``: what there is, for people."""

from collections.abc import Sequence

from rich.console import Console

from metarl import agents, envs
from metarl.checks import InputError, unknown
from metarl.experiments.arguments import plain_console
from metarl.experiments.presets import PRESETS


def list_command(arguments: Sequence[str]) -> int:
    """Run ``metarl list [envs|agents|presets]``.

    Without a word, everything in one line each; ``envs`` tells more of every published setting.
    """
    if len(arguments) > 1:
        raise InputError([f"metarl list takes one word at most, got {' '.join(arguments)}"])
    console = plain_console()
    if not arguments:
        for kind, show in _LINES.items():
            console.print(kind)
            show(console)
        return 0
    (kind,) = arguments
    if kind not in _LINES:
        raise InputError([unknown("list", kind, _LINES)])
    show = _setting_lines if kind == "envs" else _LINES[kind]
    show(console)
    return 0


def _env_lines(console: Console) -> None:
    for name, family in envs.ENVS.items():
        console.print(f"  {name:33} {family.summary} (presets: {', '.join(family.presets)})")


def _agent_lines(console: Console) -> None:
    for name, entry in agents.AGENTS.items():
        console.print(f"  {name:33} {entry.summary}")


def _preset_lines(console: Console) -> None:
    for name, make in PRESETS.items():
        console.print(f"  {name:38} {(make.__doc__ or '').strip().splitlines()[0]}")
    console.print(
        "  PRESET+ENV or PRESET+ENV@SETTING       The preset's agent and amounts elsewhere:"
        " promp/half-cheetah-dir+AntGoal-v0@maml-2017"
    )


_LINES = {"envs": _env_lines, "agents": _agent_lines, "presets": _preset_lines}


def _setting_lines(console: Console) -> None:
    """Print what each task is, and a line for each preset."""
    for name, family in envs.ENVS.items():
        console.print(f"{name}: {family.summary}")
        for number, preset in enumerate(family.presets):
            distribution, env = envs.build(name, envs.preset(name, preset), threads=1)
            spec = env.spec
            if number == 0:
                for key, about in distribution.parameters.items():
                    unit = f" in {about.unit}" if about.unit else ""
                    console.print(f"  task: {key}, {about.text}{unit}")
            action = f"{spec.action_size}{' choices' if spec.discrete else ''}"
            splits = ", ".join(
                split if length is None else f"{split} ({length})"
                for split, length in distribution.held_out_lists.items()
            )
            console.print(
                f"  {preset:20} observation {spec.observation_size}, action {action},"
                f" horizon {spec.horizon}; held out: {splits}"
            )
