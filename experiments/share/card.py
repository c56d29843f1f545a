"""The model card of an export: front matter as the Hugging Face hub reads it, and text for people.

Names come from files that others may have written: in the text they stand in code spans, where no
markup counts, and the front matter is written by the YAML library.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from metarl.experiments.experiment import Parts
from metarl.experiments.outcomes import Outcome
from metarl.experiments.settings import in_minutes
from metarl.files import parse_json
from metarl.protocols import HasMemory
from metarl.runs import Config
from metarl.statistics import CurveSummary

_TASK = {"type": "reinforcement-learning", "name": "meta-reinforcement learning"}

_POLICY = """\
from pathlib import Path

from metarl.experiments.adapt import AdaptConfig, adapt_to
from metarl.experiments.arguments import plain_console
from metarl.experiments.evaluation.scoring import load_run

folder, machine = Path("{folder}"), {{"device": "cpu", "threads": 0}}
_, parts, _ = load_run(folder, "checkpoints", machine, plain_console())
task = parts.distribution.held_out(1)
explore = AdaptConfig(episodes={episodes}, adaptations=2, seed=0)
policy = adapt_to(parts.agent, parts.env, task, explore)
before, after = policy.made.scores[0], policy.adapt({episodes})
policy.save("adapted")  # and policy.predict(obs) acts, as policies of Stable-Baselines3 do
"""
_TRIALS = """\
from pathlib import Path

from metarl.experiments.arguments import plain_console
from metarl.experiments.evaluation.scoring import evaluate, load_run

folder, machine = Path("{folder}"), {{"device": "cpu", "threads": 0}}
experiment, parts, _ = load_run(folder, "checkpoints", machine, plain_console())
# The agent learns while it acts. After 0 adaptations: the first episode of a trial.
tasks = parts.distribution.held_out(20)
scores = evaluate(experiment, parts, parts.agent, tasks, adaptations={adaptations}).summary.mean
"""


class Sharing(NamedTuple):
    """What a card tells of."""

    outcome: Outcome
    curve: CurveSummary
    """Over its held-out tasks."""
    evaluation: str
    """Name of the evaluation's files, without suffix."""
    license: str | None
    best: bool
    """Whether the weights were chosen by validation."""


def card_text(sharing: Sharing, parts: Parts, folder: Path) -> str:
    """Write the card of an export whose other files are in ``folder``."""
    front = yaml.safe_dump(front_matter(sharing), sort_keys=False, allow_unicode=True, width=100)
    blocks = [
        f"---\n{front}---",
        f"# {_code(sharing.outcome.preset)}",
        _about(sharing),
        "## Results",
        *_results(sharing, folder),
        "## Use",
        *_use(sharing.outcome, parts),
        "## Training",
        *_training(sharing.outcome, folder),
        "## Files",
        "JSON, YAML, Markdown, safetensors, CSV and pictures: nothing runs code when it is read."
        " The folder has the layout of a run; `manifest.json` holds the SHA-256 of each file, and"
        " `metarl pull` checks them before it puts the folder in place.",
    ]
    return "\n\n".join(blocks) + "\n"


def front_matter(sharing: Sharing) -> Config:
    """Return the card's metadata: library, tags, licence, and a ``model-index`` of results."""
    outcome = sharing.outcome
    environment, agent = (_entry_name(outcome.config, key) for key in ("env", "agent"))
    kinds = ["reinforcement-learning", "meta-reinforcement-learning"]
    metrics = [
        entry for place in range(len(sharing.curve.mean)) for entry in _scores(sharing, place)
    ]
    dataset: Config = {"type": environment, "name": outcome.environment}
    index = {"name": slug(outcome), "results": [_result(dataset, metrics)]}
    return {
        "library_name": "metarl",
        "pipeline_tag": "reinforcement-learning",
        **({"license": sharing.license} if sharing.license else {}),
        "tags": [*kinds, agent, environment.rpartition("/")[2]],
        "model-index": [index],
    }


def slug(outcome: Outcome) -> str:
    """Return the preset as a name for a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", outcome.preset).strip("-.") or "run"


def _entry_name(config: Config, key: str) -> str:
    part = config[key]
    return str(part["name"]) if isinstance(part, dict) else key


def _result(dataset: Config, metrics: Sequence[Config]) -> Config:
    return {"task": dict(_TASK), "dataset": dataset, "metrics": list(metrics)}


def _scores(sharing: Sharing, place: int) -> list[Config]:
    """Return the metrics of one number of adaptations."""
    mean, iqm, low, high = (values[place] for values in sharing.curve)
    after = f"after {place} adaptation{'' if place == 1 else 's'}"
    score, interval = sharing.outcome.score, [low, high]
    about = {"adaptations": place, "held_out_tasks": len(sharing.outcome.per_task)}
    spread = f"95% interval [{low:.2f}, {high:.2f}]"
    return [
        {"type": "mean_return", "name": f"{score}, mean {after}", "value": mean, "args": about},
        {
            "type": "iqm_return",
            "name": f"{score}, IQM {after}, {spread}",
            "value": iqm,
            "args": about | {"interval_95": interval},
        },
    ]


def _about(sharing: Sharing) -> str:
    outcome = sharing.outcome
    steps = f"{outcome.iteration} meta-iterations, {outcome.learning[0, -1] / 1e6:.2f}M env steps"
    chosen = " These weights were the best ones in validation, on tasks of their own."
    return (
        f"A meta-learner, {_code(_entry_name(outcome.config, 'agent'))}, trained on tasks of"
        f" {_code(outcome.environment)} by metarl ({steps}). It is made to adapt: on a task that it"
        f" has never met, from its own episodes there.{chosen if sharing.best else ''}"
    )


def _results(sharing: Sharing, folder: Path) -> list[str]:
    outcome = sharing.outcome
    rows = ["| | after | mean | IQM [95% interval] |", "|---|---|---|---|"]
    for name, curve in ({outcome.preset: sharing.curve} | outcome.floors).items():
        for place, (mean, iqm, low, high) in enumerate(zip(*curve, strict=True)):
            label = "" if place else _code(name)
            rows.append(f"| {label} | {place} | {mean:.2f} | {iqm:.2f} [{low:.2f}, {high:.2f}] |")
    videos = sorted(path.name for path in (folder / "videos").glob("*"))
    blocks = [
        f"{outcome.score.capitalize()} on {len(outcome.per_task)} held-out tasks, after so many"
        " adaptations, beside its references. The interval is a bootstrap over tasks: it speaks of"
        " other tasks for this one trained agent, and says nothing about other seeds.",
        "\n".join(rows),
        f"![Adaptation curve](eval/{sharing.evaluation}.png)",
        "![Learning curve](eval/learning.png)",
    ]
    return [*blocks, *(f"[{name}](videos/{name})" for name in videos)]


def _use(outcome: Outcome, parts: Parts) -> list[str]:
    name = slug(outcome)
    code = _TRIALS if isinstance(parts.agent, HasMemory) else _POLICY
    episodes, adaptations = (outcome.config[key] for key in ("episodes", "adaptations"))
    filled = code.format(folder=name, episodes=episodes, adaptations=adaptations)
    shell = f"pip install 'metarl-suite[hub]'\nmetarl pull USER/REPO --out {name}\n"
    return [
        f"```\n{shell}metarl evaluate {name}\n```",
        f"In Python, beside that folder:\n\n```python\n{filled}```",
    ]


def _training(outcome: Outcome, folder: Path) -> list[str]:
    sitting = _last_sitting(folder / "system.json")
    command = sitting.get("command")
    versions = sitting.get("versions")
    lines = [f"- wall time: {in_minutes(outcome.wall_s)} minutes of sampling and updates"]
    if outcome.commits:
        lines.append(f"- commit: {_code(', '.join(sorted(outcome.commits)))}")
    if isinstance(versions, dict):
        told = ", ".join(f"{key} {value}" for key, value in versions.items() if value)
        lines.append(f"- versions: {_code(told)}")
    if "platform" in sitting:
        machine = f"{sitting['platform']}, {sitting.get('cpu_count')} cores"
        lines.append(f"- machine: {_code(machine)}")
    blocks = ["\n".join(lines)]
    if isinstance(command, list) and command[1:2] == ["train"]:
        blocks.append(f"To train it again:\n\n{_fenced(shlex.join(map(str, command)))}")
    settings = yaml.safe_dump(outcome.config, sort_keys=False)
    return [*blocks, f"All settings (`config.yaml`):\n\n{_fenced(settings, 'yaml')}"]


def _last_sitting(file: Path) -> Config:
    if not file.exists():
        return {}
    content = parse_json(file, file.read_bytes())
    sittings = content.get("sittings") if isinstance(content, dict) else None
    last = sittings[-1] if isinstance(sittings, list) and sittings else None
    return last if isinstance(last, dict) else {}


def _fenced(text: str, language: str = "") -> str:
    inner = text.rstrip("\n").replace("```", "'''")
    return f"```{language}\n{inner}\n```"


def _code(text: str) -> str:
    return "`" + re.sub(r"[`|\s]+", " ", text).strip() + "`"
