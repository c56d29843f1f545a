"""The peers: they step the same work, and are put beside our sampling."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from metarl import envs
from metarl.experiments.bench.peers import PointEnv, bench_peers, peer_of
from metarl.experiments.cli import main
from metarl.experiments.presets import preset

OURS = ("metarl_vec_env_2", "metarl_vec_env_64")
PEERS = ("sb3_subproc", "gymnasium_sync", "gymnasium_async")


@pytest.mark.parametrize("name", ["maml-trpo/navigation", "maml-trpo/half-cheetah-vel"])
def test_peers_step_beside_us(name: str) -> None:
    small = preset(name)
    small = replace(small, tasks_per_update=2, episodes=2, env=replace(small.env, horizon=4))
    figures = bench_peers(small, 1, num_envs=2, round_s=0.05)
    over = tuple(f"metarl_over_{peer}" for peer in PEERS)
    more = tuple(f"{name}_over_sb3_subproc" for name in OURS)
    assert tuple(figures) == ("metarl_with_policy", *PEERS, *OURS, *over, *more)
    assert all(0 < entry.median < float("inf") for entry in figures.values())
    ours = figures["metarl_with_policy"].median
    for peer in PEERS:
        ratio = figures[f"metarl_over_{peer}"].median
        assert ratio == pytest.approx(ours / figures[peer].median)
    for copies in OURS:
        ratio = figures[f"{copies}_over_sb3_subproc"].median
        assert ratio == pytest.approx(figures[copies].median / figures["sb3_subproc"].median)


def test_a_family_without_a_peer_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--peers", "--phases", "update", "--rounds", "1", "--tasks-per-update", "2"]
    assert main(["bench", "maml-trpo/bandit", *flags, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["peers"] == {}
    assert "no peer" in result["peers_note"]


@pytest.mark.filterwarnings("ignore:.*Box observation space")
def test_the_point_moves_as_ours_does() -> None:
    config = replace(envs.navigation.NavigationConfig(), action_scale=10.0)
    make = peer_of(config)
    assert make is not None
    point = make()
    check_env(point.unwrapped, skip_render_check=True)
    theirs, _ = point.reset(seed=1)
    distribution, env = envs.build("metarl/PointNavigation-v0", config)
    tasks = distribution.held_out(1)
    inner = point.unwrapped
    assert isinstance(inner, PointEnv)
    goal = torch.tensor(inner.goal, dtype=torch.float32)
    tasks = tasks._replace(parameter={"goal": goal[None]})
    ours = env.reset(tasks, 1, None)  # type: ignore[arg-type]  # nothing random starts an episode
    running = torch.ones(1, 1, dtype=torch.bool)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert ours[0, 0].numpy() == pytest.approx(theirs, abs=1e-6)
        action = rng.uniform(-1.5, 1.5, 2).astype(np.float32)
        theirs, reward, terminated, _, _ = point.step(action)
        step = env.step(torch.from_numpy(action).reshape(1, 1, 2), running)
        ours = step.obs
        assert float(step.reward) == pytest.approx(float(reward), abs=1e-6)
        assert bool(step.terminated) == terminated
