"""Runs written by hand: folders as ``metarl train`` leaves them, in no time."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from metarl import envs

NAME = "metarl/PointNavigation-v0"
NAVIGATION: dict[str, object] = {"name": NAME, **dataclasses.asdict(envs.preset(NAME))}
FLOOR = {"mean": [-9.0, -9.0], "iqm": [-9.0, -9.0], "ci_low": [-10.0] * 2, "ci_high": [-8.0] * 2}


def write_run(
    folder: Path,
    seed: int = 1,
    shift: float = 0.0,
    iterations: int = 3,
    floors: Mapping[str, object] | None = None,
    **changes: object,
) -> Path:
    """Write a finished run on 8 tasks: before adaptation it scores ``shift``, afterwards 5 more.

    Meta-iteration i ends after i million env steps and 1.5 i minutes, with a return of i + seed.
    """
    (folder / "eval").mkdir(parents=True)
    agent = {"inner_lr": 0.1, "policy": {"hidden_sizes": [8, 8]}}
    config = {"preset": "reptile/navigation", "seed": seed, "episodes": 20, "threads": 2}
    config |= {"device": "cpu", "env": NAVIGATION, "agent": agent} | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [
        {"iteration": i, "env_steps": 1e6 * i, "meta/post_return": float(i + seed)}
        | {"time/sampling_s": 30.0, "time/update_s": 60.0}
        for i in range(1, iterations + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = np.random.default_rng(seed).normal(size=(8, 2)) + np.array([shift, shift + 5.0])
    content = {"per_task": scores.tolist(), "score": "return"}
    content |= {"references": floors if floors is not None else {"random": FLOOR}}
    file = folder / "eval" / f"{iterations:06d}_tasks8_adaptations1.json"
    file.write_text(json.dumps(content))
    git = {"commit": "abcdef0123456789", "dirty": False}
    sitting = {"command": ["metarl", "train"], "cpu_count": 2, "git": git}
    (folder / "system.json").write_text(json.dumps({"sittings": [sitting]}))
    (folder / "DONE").write_text("{}")
    return folder
