"""Experiments as plain data, strictly both ways."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from metarl.checks import InputError
from metarl.experiments.experiment import build, from_dict, to_dict
from metarl.experiments.presets import PRESETS, preset
from metarl.runs import Config

HERE = Path("somewhere/config.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_yaml_and_can_be_built(name: str) -> None:
    experiment = preset(name)
    assert experiment.preset == name
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(experiment))), HERE) == experiment
    parts = build(experiment)
    # What follows "-n" is the length of a trial.
    agent, task = re.sub(r"-n\d+$", "", name.partition("@")[0]).split("/")
    agent = "average" if experiment.told else agent
    stored: Any = to_dict(experiment)["agent"]
    assert stored["name"] == agent
    family = parts.env.spec.name.removeprefix("metarl/").removesuffix("-v0").lower()
    assert task.replace("-", "") in family


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sede": 1}, "sede: no 'sede'; did you mean 'seed'?"),
        ({"env": {"name": "metarl/HalfCheetahDri-v0"}}, "did you mean 'metarl/HalfCheetahDir-v0'"),
        ({"agent": {"name": "maml"}}, "did you mean 'maml-trpo'"),
        ({"agent": {"name": "maml-tropo"}}, "did you mean 'maml-trpo'"),
        ({"agent": 3}, "must be mappings"),
        ({"seed": "one"}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"iterations": 0}, "iterations must be a whole number"),
        ({"device": "gpu"}, "device must be"),
    ],
)
def test_faults_are_named_with_their_file(change: Config, said: str) -> None:
    with pytest.raises(InputError) as caught:
        from_dict(to_dict(preset("maml-trpo/bandit")) | change, HERE)
    assert all(line.startswith(f"{HERE}: ") for line in caught.value.lines)
    assert said in str(caught.value)


def test_every_missing_key_has_a_line() -> None:
    config = to_dict(preset("maml-trpo/bandit"))
    del config["seed"], config["episodes"]
    with pytest.raises(InputError) as caught:
        from_dict(config, HERE)
    assert caught.value.lines == (f"{HERE}: episodes is missing", f"{HERE}: seed is missing")
