"""Reptile over learners of Stable-Baselines3: its step, its seeds, what it refuses, resuming."""

import contextlib
import math
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from metarl.agents.reptile import ReptileConfig
from metarl.checks import InputError, field_names
from metarl.envs.sb3 import TaskVecEnv
from metarl.experiments.reptile_sb3 import Sb3Reptile, Sb3ReptileConfig
from metarl.types import Params

PAGE = Path(__file__).resolve().parents[2] / "docs" / "agents" / "reptile.md"
POINT, BANDIT = "metarl/PointNavigation-v0", "metarl/BernoulliBandit-v0"


def point() -> VecMonitor:
    return VecMonitor(TaskVecEnv(POINT, 3, config={"horizon": 8}, threads=1))


def ppo(seed: int = 1) -> PPO:
    net = {"net_arch": [6]}
    return PPO(
        "MlpPolicy",
        point(),
        n_steps=8,
        batch_size=12,
        n_epochs=2,
        policy_kwargs=net,
        device="cpu",
        seed=seed,
    )


def a2c() -> A2C:
    return A2C(
        "MlpPolicy", point(), n_steps=4, device="cpu", seed=1, policy_kwargs={"net_arch": [6]}
    )


def run(reptile: Sb3Reptile, iterations: int) -> list[tuple[int, int, dict[str, float]]]:
    return [(step.number, step.env_steps, step.metrics) for step in reptile.train(iterations)]


def assert_same(left: Params, right: Params) -> None:
    assert left.keys() == right.keys()
    for name, leaf in left.items():
        assert torch.equal(leaf, right[name]), name


def weights(model: OnPolicyAlgorithm) -> Params:
    return {name: leaf.detach().clone() for name, leaf in model.policy.named_parameters()}


def test_learners_leave_no_folder_of_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SB3_LOGDIR", str(tmp_path / "logs"))  # otherwise among temporary files
    reptile = Sb3Reptile(ppo(), Sb3ReptileConfig())
    run(reptile, 1)
    reptile.evaluate(reptile.held_out_tasks(1))
    assert not (tmp_path / "logs").exists()
    a2c().learn(4)  # as SB3 does when nobody silences it
    assert (tmp_path / "logs").exists()


def test_a_serial_step_goes_part_of_the_way_to_what_was_learned() -> None:
    model = ppo()
    reptile = Sb3Reptile(model, Sb3ReptileConfig(outer_lr=0.25, rollouts=2))
    phi = reptile.outer.weights()
    assert_same(phi, weights(model))
    ((number, env_steps, metrics),) = run(reptile, 1)
    assert (number, env_steps, reptile.env_steps) == (1, 48, 48)
    assert metrics["rollout/ep_rew_mean"] < 0.0
    end, norm = weights(model), 0.0
    for name, leaf in phi.items():
        norm += float(((leaf - end[name]).double() ** 2).sum())
        torch.testing.assert_close(
            reptile.outer.params[name], leaf + 0.25 * (end[name] - leaf), rtol=1e-5, atol=1e-7
        )
    assert 0.0 < metrics["train/gradient_norm"] == pytest.approx(norm**0.5, rel=1e-5)


def test_a_batched_step_goes_to_the_mean_and_each_task_begins_at_phi() -> None:
    batched = Sb3Reptile(ppo(), Sb3ReptileConfig(outer_lr=1.0, tasks_per_update=2))
    alone = Sb3Reptile(ppo(), batched.config)
    phi = alone.outer.weights()
    tasks = alone.draw_tasks(0)
    assert len({str(task) for task in tasks}) == 2
    ends = []
    for slot in (1, 0):  # what one task learns does not depend on what came before it
        alone.begin(tasks[slot])
        assert_same(weights(alone.model), phi)
        alone.learn(0, slot)
        ends.append(weights(alone.model))
    run(batched, 1)
    for name in phi:
        mean = (ends[0][name] + ends[1][name]) / 2
        torch.testing.assert_close(batched.outer.params[name], mean, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_finite_is_left_out_and_counted() -> None:
    model = a2c()
    model.policy.optimizer.param_groups[0]["weight_decay"] = math.nan
    reptile = Sb3Reptile(model, Sb3ReptileConfig(anneal_over=3, rollouts=1))
    before = reptile.outer.state_dict()
    ((number, env_steps, metrics),) = run(reptile, 1)
    assert (number, env_steps) == (1, 12)
    assert metrics["train/skipped_steps"] == 1.0
    assert_same(reptile.outer.state_dict(), before)


@pytest.mark.parametrize("make", [ppo, a2c])
def test_a_restored_run_goes_on_bit_by_bit(make: type, tmp_path: Path) -> None:
    config = Sb3ReptileConfig(outer_lr=0.5, anneal_over=4, tasks_per_update=2, rollouts=1)
    whole, first, second = (Sb3Reptile(make(), config) for _ in range(3))
    steps = run(whole, 4)
    assert [step[2]["train/outer_lr"] for step in steps] == [0.5, 0.375, 0.25, 0.125]
    assert not second.restore(tmp_path)
    run(first, 2)
    first.save(tmp_path)
    assert second.restore(tmp_path)
    second.evaluate(second.held_out_tasks(1))
    assert run(second, 4) == steps[2:]
    assert_same(second.outer.state_dict(), whole.outer.state_dict())
    assert second.env_steps == whole.env_steps


def test_another_seed_meets_other_tasks() -> None:
    drawn = [
        Sb3Reptile(ppo(), Sb3ReptileConfig(seed=seed)).draw_tasks(iteration)
        for seed, iteration in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]


def test_scores_are_a_function_of_phi_and_leave_it_alone() -> None:
    model = ppo()
    reptile = Sb3Reptile(model, Sb3ReptileConfig(rollouts=1))
    phi, tasks = reptile.outer.weights(), reptile.held_out_tasks(3)
    scores = reptile.evaluate(tasks, 2)
    assert scores.shape == (3, 3)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 9
    assert (reptile.evaluate(tasks, 2) == scores).all()
    assert (reptile.evaluate(tasks[:1], 0) == scores[:1, :1]).all()
    assert_same(reptile.outer.weights(), phi)


def test_discrete_actions_too() -> None:
    env = TaskVecEnv(BANDIT, 8, threads=1)
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=64, n_epochs=1, device="cpu", seed=1)
    reptile = Sb3Reptile(model, Sb3ReptileConfig())
    phi = reptile.outer.weights()
    run(reptile, 1)
    assert not any(torch.equal(leaf, phi[name]) for name, leaf in reptile.outer.params.items())
    scores = reptile.evaluate(reptile.held_out_tasks(2), 1)
    assert ((scores >= 0.0) & (scores <= 1.0)).all()


def test_what_cannot_be_met_task_by_task_is_refused() -> None:
    config = Sb3ReptileConfig()
    with pytest.raises(InputError, match="got DQN: a replay buffer mixes tasks"):
        Sb3Reptile(DQN("MlpPolicy", TaskVecEnv(BANDIT, 1), buffer_size=10), config)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a TaskVecEnv, wrapped or not; got DummyVecEnv"):
        Sb3Reptile(PPO("MlpPolicy", gymnasium.make("CartPole-v1"), device="cpu"), config)
    with pytest.raises(InputError, match="VecNormalize keeps statistics"):
        Sb3Reptile(A2C("MlpPolicy", VecNormalize(point()), n_steps=8, device="cpu"), config)
    reptile = Sb3Reptile(ppo(), config)
    with pytest.raises(InputError, match="adaptations must be a whole number"):
        reptile.evaluate(reptile.held_out_tasks(1), -1)


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    Sb3Reptile(ppo(), Sb3ReptileConfig()).save(tmp_path)
    with pytest.raises(InputError, match=r"rollouts was 2, here it is 3"):
        Sb3Reptile(ppo(), Sb3ReptileConfig(rollouts=3)).restore(tmp_path)
    with pytest.raises(InputError, match=r"learner was 'PPO', here it is 'A2C'"):
        Sb3Reptile(a2c(), Sb3ReptileConfig()).restore(tmp_path)


def test_the_documents_example_runs_as_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, Any] = {}
    with contextlib.chdir(tmp_path):
        exec(compile(code, PAGE.name, "exec"), names)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[:3]] == ["1", "2", "3"]
    assert (tmp_path / "checkpoints" / "000003" / "tensors.safetensors").exists()
    assert names["scores"].shape == (3, 2)
    assert names["env"].unwrapped.tasks == [{"goal": pytest.approx([0.3, -0.2])}] * 20


def test_the_documents_links_and_flags_exist() -> None:
    text = PAGE.read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (PAGE.parent / link).exists(), link
    known = {field.replace("_", "-") for field in field_names(ReptileConfig)}
    for flag in re.findall(r"--agent\.([a-z0-9-]+)", text):
        assert flag.removeprefix("no-") in known | {"first-order"}, flag
