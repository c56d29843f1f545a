"""RL^2's meta-update: its shuffling, its steps, and values in units of their own."""

import gc
import weakref
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.agents.rl2 import Rl2
from metarl.checks import InputError
from metarl.seeding import Streams
from metarl.types import Trajectories
from tests.agents.test_rl2 import CONFIG, lived, new_agent, new_env
from tests.metarl.scripted import SCRIPT, ScriptedEnv
from tests.precision import Precision


def updated(agent: Rl2, rounds: Sequence[Trajectories], **change: Tensor) -> dict[str, Tensor]:
    copy = Rl2(ScriptedEnv(SCRIPT).spec, CONFIG, Streams(5))
    copy.load_state_dict(agent.state_dict() | change)
    copy.meta_update(rounds)
    return copy.state_dict()


def test_a_meta_update_is_in_full_precision_and_leaves_the_setting_alone() -> None:
    env = new_env(False)
    agent = new_agent(env)
    rounds, _ = lived(agent, env, 1)
    assert torch.backends.cudnn.allow_tf32, "torch's own default has changed"
    with Precision() as precision:
        agent.meta_update(rounds)
    assert {setting.cudnn_tf32 for setting in precision.settings} == {False}
    assert torch.backends.cudnn.allow_tf32


def test_an_agent_is_gone_with_its_last_name() -> None:
    # What it recorded on a GPU would otherwise live until Python looks for circles.
    env = new_env(False)
    agent = new_agent(env)
    lived(agent, env, 1)
    seen = weakref.ref(agent)
    gc.disable()
    try:
        del agent
        assert seen() is None
    finally:
        gc.enable()


def test_the_shuffling_is_a_function_of_the_state() -> None:
    env = new_env(False)
    agent = new_agent(env)
    rounds, _ = lived(agent, env, 1)
    agent.meta_update(rounds)
    results = [updated(agent, rounds) for _ in range(2)]
    results.append(updated(agent, rounds, num_updates=torch.tensor(7)))
    weight = "gru.memory_weight"
    assert torch.equal(results[0][weight], results[1][weight])
    assert not torch.equal(results[0][weight], results[2][weight])
    assert [int(result["num_updates"]) for result in results] == [2, 2, 8]


def test_the_entropy_weighs_less_and_less_until_nothing() -> None:
    env = new_env(True)
    annealed = replace(CONFIG, entropy_coefficient=0.5, anneal_entropy_over=2)
    agent = Rl2(env.spec, annealed, Streams(5))
    rounds, _ = lived(agent, env, 1)
    for weight in (0.5, 0.25, 0.0, 0.0):
        fixed = replace(CONFIG, entropy_coefficient=weight)
        other, unlike = Rl2(env.spec, fixed, Streams(5)), Rl2(env.spec, CONFIG, Streams(5))
        for copy in (other, unlike):
            copy.load_state_dict(agent.state_dict())
            copy.meta_update(rounds)
        agent.meta_update(rounds)
        name = "policy.layer0.weight"
        assert torch.equal(agent.state_dict()[name], other.state_dict()[name])
        assert not torch.equal(agent.state_dict()[name], unlike.state_dict()[name])


def test_muon_moves_every_weight_and_another_optimiser_is_refused() -> None:
    env = new_env(False)
    agent = Rl2(env.spec, replace(CONFIG, optimizer="muon"), Streams(5))
    start = agent.state_dict()
    assert "gru.memory_weight/momentum" in start
    gates = {"gru.input_weight": 3, "gru.memory_weight": 3}
    assert agent.network.stacked == gates
    assert all(start[name].shape[0] == 3 * CONFIG.memory_size for name in gates)
    rounds, _ = lived(agent, env, 1)
    agent.meta_update(rounds)
    after = agent.state_dict()
    assert all(not torch.equal(after[name], start[name]) for name in start if "/" not in name)
    absent: Any = "sgd"
    with pytest.raises(InputError, match=r"Rl2Config.optimizer: no 'sgd'.* known: adam, muon"):
        replace(CONFIG, optimizer=absent)


@pytest.mark.parametrize("unit", [1.0, 30.0])
def test_values_are_learned_whatever_the_unit_of_rewards(unit: float) -> None:
    """Returns of 20 times their range and more, which a linear layer alone takes long to reach."""
    env = new_env(False)
    agent = Rl2(env.spec, replace(CONFIG, learning_rate=0.01, discount=0.0), Streams(5))
    (batch,), _ = lived(agent, env, 0)
    reward = unit * (20.0 + batch.obs[:, :, :-1].sum(-1).tanh())
    rounds = [batch._replace(reward=reward * batch.mask)]
    errors = [agent.meta_update(rounds)["train/value_error"] for _ in range(40)]
    assert errors[-1] < 0.5


def test_steps_grow_shorter_until_nothing_is_learned() -> None:
    env = new_env(False)
    agent, resumed = (Rl2(env.spec, replace(CONFIG, anneal_over=2), Streams(5)) for _ in range(2))
    rounds, _ = lived(agent, env, 0)
    sizes, weights = [], [agent.state_dict()["gru.input_weight"]]
    for _ in range(3):
        resumed.load_state_dict(agent.state_dict())
        sizes.append([each.meta_update(rounds)["train/learning_rate"] for each in (agent, resumed)])
        weights.append(agent.state_dict()["gru.input_weight"])
        assert torch.equal(resumed.state_dict()["gru.input_weight"], weights[-1])
    assert sizes == [[1e-3] * 2, [5e-4] * 2, [0.0] * 2]
    assert [torch.equal(*pair) for pair in pairwise(weights)] == [False, False, True]


def test_the_unit_in_which_values_are_kept_changes_nothing() -> None:
    """V = mu + sigma v: the same V, kept with another mu and sigma, leads to the same weights."""
    env = new_env(False)
    agent = new_agent(env)
    rounds, _ = lived(agent, env, 0)
    agent.meta_update(rounds)
    state = agent.state_dict()
    deviation = state["targets/deviation"].float()
    other = {
        "targets/mean": state["targets/mean"] - 3.0,
        "targets/deviation": state["targets/deviation"] * 0.2,
        "value.layer0.weight": state["value.layer0.weight"] * 5.0,
        "value.layer0.bias": state["value.layer0.bias"] * 5.0 + 3.0 / (0.2 * deviation),
    }
    first, second = updated(agent, rounds), updated(agent, rounds, **other)
    for name, leaf in first.items():
        torch.testing.assert_close(second[name], leaf, rtol=1e-3, atol=1e-5, msg=name)
