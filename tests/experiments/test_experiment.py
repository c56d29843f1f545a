"""Experiments as plain data, strictly both ways."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from metarl.checks import InputError
from metarl.envs import ENVS
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


@pytest.mark.parametrize("env", ENVS)
def test_a_preset_can_be_carried_over_to_any_environment(env: str) -> None:
    own = preset("promp/half-cheetah-dir")
    for setting, config in ENVS[env].presets.items():
        name = f"{own.preset}+{env.removeprefix('metarl/')}@{setting}"
        experiment = preset(name)
        assert experiment == replace(own, preset=name, env=config)
        assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(experiment))), HERE) == experiment
    without_setting = preset(name.partition("@")[0])
    assert without_setting.env == next(iter(ENVS[env].presets.values()))
    parts = build(without_setting)
    assert parts.env.spec.name == env
    assert len(parts.agent.begin(2, 1)) > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("promp/half-cheetah+AntGoal-v0", "did you mean 'promp/half-cheetah-dir'"),
        ("promp/navigation+AntGoals-v0", "did you mean 'AntGoal-v0'"),
        ("promp/navigation+metarl/AntGoal-v0", "did you mean 'AntGoal-v0'"),
        ("promp/navigation+", "no ''; known: BernoulliBandit-v0"),
        ("promp/navigation+AntGoal-v0@maml-2016", "did you mean 'maml-2017'"),
        ("promp/navigation+AntGoal-v0@", "no ''; known: promp-2019"),
        ("promp/navigation@promp-2019", "no 'promp/navigation@promp-2019'; did you mean"),
    ],
)
def test_what_a_preset_cannot_be_carried_over_to_is_named(name: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        preset(name)


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


REFUSED = [
    (
        "reptile/bandit",
        {"adaptations": 0},
        {"learn_from_last_round": False},
        "ReptileConfig.learn_from_last_round must be True with adaptations=0",
    ),
    (
        "reptile/bandit",
        {"episodes": 2},
        {"inner_learner": "ppo", "inner_minibatches": 3},
        "ReptileConfig.inner_minibatches=3 needs as many episodes in a round, got 2",
    ),
    ("cavia/navigation", {"adaptations": 0}, {}, "at least 1 with CaviaConfig, got 0: phi is 0"),
    ("meta-sgd/navigation", {"adaptations": 0}, {}, "at least 1 with MetaSgdConfig, got 0: step"),
    ("emaml/navigation", {"tasks_per_update": 1}, {}, "at least 2 with EmamlConfig, got 1: the"),
    (
        "promp/half-cheetah-dir",
        {"adaptations": 0},
        {"adaptive_kl": True},
        "PrompConfig.adaptive_kl must be False with adaptations=0: there is no policy",
    ),
    (
        "rl2/navigation",
        {"tasks_per_update": 3, "episodes": 2},
        {"minibatches": 7},
        "Rl2Config.minibatches=7 needs as many trials, tasks_per_update times episodes, got 6",
    ),
]


@pytest.mark.parametrize(("name", "amounts", "agent", "said"), REFUSED)
def test_agents_that_could_not_learn_from_so_much_are_refused(
    name: str, amounts: Config, agent: Config, said: str
) -> None:
    published: Any = preset(name)
    made: Any = replace(published.agent, **agent)
    with pytest.raises(InputError, match=re.escape(said)):
        replace(published, agent=made, **amounts)
    stored: Any = to_dict(published)
    stored = stored | amounts | {"agent": stored["agent"] | agent}
    with pytest.raises(InputError, match=re.escape(f"{HERE}: ")) as caught:
        from_dict(stored, HERE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "amounts", "agent"),
    [
        ("reptile/bandit", {"adaptations": 0}, {}),
        ("reptile/bandit", {"adaptations": 1}, {"learn_from_last_round": False}),
        ("reptile/bandit", {"episodes": 3}, {"inner_learner": "ppo", "inner_minibatches": 3}),
        ("emaml/navigation", {"tasks_per_update": 1}, {"credit_weight": 0.0}),
        ("emaml/navigation", {"tasks_per_update": 2}, {}),
        ("maml-trpo/bandit", {"adaptations": 0}, {}),
        ("promp/half-cheetah-dir", {"adaptations": 0}, {}),
        ("rl2/navigation", {"tasks_per_update": 3, "episodes": 2}, {"minibatches": 6}),
    ],
)
def test_what_is_just_enough_is_taken(name: str, amounts: Config, agent: Config) -> None:
    published: Any = preset(name)
    made: Any = replace(published.agent, **agent)
    experiment = replace(published, agent=made, **amounts)
    assert from_dict(to_dict(experiment), HERE) == experiment


def test_every_missing_key_has_a_line() -> None:
    config = to_dict(preset("maml-trpo/bandit"))
    del config["seed"], config["episodes"]
    with pytest.raises(InputError) as caught:
        from_dict(config, HERE)
    assert caught.value.lines == (f"{HERE}: episodes is missing", f"{HERE}: seed is missing")
