"""RL^2: what the memory is told and when, whose it is, and that learning sees what acting saw."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl import agents
from metarl.agents.rl2 import Rl2, Rl2Config, trial_inputs
from metarl.evaluation import EvaluationConfig, adaptation_curve
from metarl.experiments.evaluation.scoring import EvaluationRequest, evaluate_beside_floors
from metarl.experiments.experiment import build
from metarl.experiments.presets import preset
from metarl.protocols import HasMemory
from metarl.recurrent import gru
from metarl.sampler import adaptation_rounds, collect
from metarl.seeding import Streams
from metarl.trainer import meta_train
from metarl.trials import join
from metarl.types import Acted, Adapted, Outcome, Trajectories
from tests.conftest import build_world
from tests.metarl.scripted import LENGTHS, NEVER, SCRIPT, STREAMS, Script, ScriptedEnv, T, tasks

CONFIG = Rl2Config(memory_size=7, epochs=2, minibatches=2)
K, E = 2, 3


def new_env(discrete: bool, script: Script = SCRIPT) -> ScriptedEnv:
    env = ScriptedEnv(script)
    env.spec = env.spec._replace(discrete=discrete)
    return env


def new_agent(env: ScriptedEnv) -> Rl2:
    return Rl2(env.spec, CONFIG, Streams(5))


def lived(
    agent: Rl2, env: ScriptedEnv, adaptations: int
) -> tuple[list[Trajectories], list[Adapted]]:
    walk = adaptation_rounds(env, tasks(K), agent, E, adaptations, STREAMS)
    rounds, known = zip(*walk, strict=True)
    return list(rounds), list(known)


def part(agent: Rl2, name: str) -> dict[str, Tensor]:
    state = agent.state_dict().items()
    return {leaf.removeprefix(name): value for leaf, value in state if leaf.startswith(name)}


@pytest.mark.parametrize("adaptations", [0, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_learning_sees_what_acting_saw(discrete: bool, adaptations: int) -> None:
    env = new_env(discrete)
    agent = new_agent(env)
    trials = join(lived(agent, env, adaptations)[0])
    x = trial_inputs(trials, env.spec)
    distribution, _ = agent.network.unroll(agent.state_dict(), x)
    again = distribution.log_prob(trials.action)[trials.mask]
    torch.testing.assert_close(again, trials.log_prob[trials.mask], rtol=0, atol=1e-5)
    assert trials.mask.sum() == (adaptations + 1) * sum(map(sum, LENGTHS))
    assert again.std() > 0.01


def test_the_first_input_of_a_round_tells_how_the_last_one_ended() -> None:
    env = new_env(False)
    agent = new_agent(env)
    (first, second), known = lived(agent, env, 1)
    told = known[0]
    assert (told["ended"] == 1.0).all()
    x = trial_inputs(join([first, second]), env.spec).view(K, E, 2 * T, -1)
    for task, row in enumerate(LENGTHS):
        for episode, length in enumerate(row):
            if length:
                action = first.action[task, episode, length - 1]
                reward = first.reward[task, episode, length - 1]
            else:
                action, reward = torch.zeros(2), torch.zeros(())
            assert torch.equal(told["action"][task, episode], action)
            assert told["reward"][task, episode] == reward
            if length:
                told_there = x[task, episode, length, 3:]
                assert torch.equal(told_there, torch.cat((action, reward[None], torch.ones(1))))
                assert (x[task, episode, :length, -1] == 0).all(), "no end inside an episode"
                assert (x[task, episode, 0, 3:] == 0).all(), "nothing came before a trial"


@pytest.mark.parametrize("what", ["action", "reward", "ended"])
def test_each_part_of_the_input_moves_the_memory(what: str) -> None:
    env = new_env(False)
    agent = new_agent(env)
    (_, known) = lived(agent, env, 0)
    obs, noise = torch.ones(K, E, 3), torch.zeros(K, E, 2)
    told = agent.act(known[0], obs, noise).adapted["memory"]
    dropped = known[0] | {what: torch.zeros_like(known[0][what])}
    untold = agent.act(dropped, obs, noise).adapted["memory"]
    moved = (told - untold).abs().amax(-1) > 1e-3
    assert torch.equal(moved, (known[0][what].reshape(K, E, -1) != 0).any(-1))
    assert moved.sum() >= 5


def test_the_memory_of_a_copy_that_stopped_stays() -> None:
    env = new_env(True)
    agent = new_agent(env)
    rounds, known = lived(agent, env, 1)
    for number in (1, 2):
        trials = join(rounds[:number])
        memories = gru(part(agent, "gru."), trial_inputs(trials, env.spec))
        steps = trials.mask.sum(1)
        last = memories[torch.arange(K * E), steps - 1] * (steps > 0)[:, None]
        torch.testing.assert_close(known[number - 1]["memory"].flatten(0, 1), last)


def test_what_did_not_count_is_not_remembered() -> None:
    agent = new_agent(new_env(False))
    before = {name: leaf + 0.25 for name, leaf in agent.begin(1, 3).items()}
    acted = agent.act(before, torch.ones(1, 3, 3), torch.ones(1, 3, 2))
    counted = torch.tensor([[True, False, False]])
    reward, ended = torch.tensor([[3.0, 4.0, 5.0]]), torch.tensor([[False, True, False]])
    outcome = Outcome(reward, ended, counted)
    after = agent.remember(before, acted, outcome)
    assert after["reward"].tolist() == [[3.0, 0.25, 0.25]]
    assert after["ended"].tolist() == [[0.0, 1.0, 0.0]]
    for name, new in (("memory", acted.adapted["memory"]), ("action", acted.action)):
        assert torch.equal(after[name][:, :1], new[:, :1])
        assert torch.equal(after[name][:, 1:], before[name][:, 1:])


def test_a_copy_does_not_see_another() -> None:
    ends = torch.tensor([[NEVER, 1, T - 1], [NEVER, NEVER, 0]])
    never = torch.full_like(ends, NEVER)
    other = ends.clone()
    other[0, 1] = 3
    known = [
        lived(new_agent(env), env, 1)[1][-1]
        for env in (new_env(False, Script(script, never)) for script in (ends, other))
    ]
    same = (known[0]["memory"] == known[1]["memory"]).all(-1)
    assert same.tolist() == [[True, False, True], [True, True, True]]


class Listener:
    """Remembers the outcomes of the steps, and changes nothing."""

    def __init__(self, agent: Rl2) -> None:
        self.agent, self.heard = agent, list[Outcome]()
        self.begin, self.adapt = agent.begin, agent.adapt
        self.meta_update, self.state_dict = agent.meta_update, agent.state_dict
        self.load_state_dict = agent.load_state_dict

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        return self.agent.act(adapted, obs, noise)

    def remember(self, before: Adapted, acted: Acted, outcome: Outcome) -> Adapted:
        self.heard.append(outcome)
        return self.agent.remember(before, acted, outcome)


def test_the_sampler_tells_the_outcome_of_every_step() -> None:
    env = new_env(False)
    agent = Listener(new_agent(env))
    assert isinstance(agent, HasMemory)
    batch, _ = collect(env, tasks(K), agent, agent.begin(K, E), E, STREAMS)
    columns = [torch.stack(column, -1) for column in zip(*agent.heard, strict=True)]
    reward, ended, counted = columns
    assert torch.equal(counted, batch.mask)
    assert torch.equal(reward, batch.reward)
    # The step that ends an episode: its last, or the one in which the simulator failed.
    last = [[T - 1, 1, T - 1], [0, 2, 3]]
    assert torch.equal(ended, torch.arange(T) >= torch.tensor(last)[..., None])


@pytest.mark.parametrize("env_name", ["metarl/HalfCheetahDir-v0", "metarl/BernoulliBandit-v0"])
def test_memory_does_not_depend_on_how_tasks_are_shared(env_name: str) -> None:
    curves = []
    for threads, at_once in ((1, 8), (4, 8), (1, 3)):
        world = build_world("rl2", env_name, threads=threads)
        config = EvaluationConfig(episodes=2, adaptations=2, tasks_at_once=at_once)
        held_out = world.distribution.held_out(8)
        agent = world.new_agent()
        curves.append(adaptation_curve(agent, world.env, held_out, config, Streams(1)).score)
    for other in curves[1:]:
        torch.testing.assert_close(other, curves[0], rtol=1e-5, atol=1e-5)


def test_copies_are_separate_trials_in_every_score() -> None:
    experiment = replace(
        preset("rl2/bandit"),
        tasks_per_update=6,
        episodes=4,
        iterations=1,
        agent=CONFIG,
    )
    parts = build(experiment)
    horizon = parts.env.spec.horizon
    assert parts.env.spec.score_is_total
    training = meta_train(parts.agent, parts.env, parts.distribution, experiment, Streams(1))
    (iteration,) = training
    assert 0.2 * horizon < iteration.metrics["meta/pre_return"] < horizon
    request = EvaluationRequest(adaptations=1, tasks=20)
    for name, curve in evaluate_beside_floors(experiment, parts, request).items():
        assert 0.2 * horizon < curve.per_task.mean() < horizon, name


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    agent = new_agent(new_env(False))
    before = agent.state_dict()
    bad = {"num_updates": torch.tensor(3), "gru.input_bias": torch.zeros(4)}
    with pytest.raises(ValueError, match=r"'gru.input_bias' should be \[21\] float32, got \[4\] "):
        agent.load_state_dict(before | bad)
    assert all(torch.equal(leaf, before[name]) for name, leaf in agent.state_dict().items())


def test_agents_without_memory_are_not_told() -> None:
    spec = ScriptedEnv(SCRIPT).spec
    has = {name: isinstance(agents.build(name, spec), HasMemory) for name in agents.AGENTS}
    assert {name for name, memory in has.items() if memory} == {"rl2"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_size", 0),
        ("clip", 0.0),
        ("clip", 3.0),
        ("epochs", 0),
        ("minibatches", 2.5),
        ("discount", 1.2),
        ("longest_memory", 1),
        ("longest_memory", 2),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Rl2Config.{field}"):
        Rl2Config(**{field: value})


def test_each_update_learns_by_the_discount_that_is_due() -> None:
    """Also the one after a restart."""
    env, rising = new_env(True), replace(CONFIG, discount=0.9, raise_discount=(1, 1))
    rounds = lived(new_agent(env), env, 1)[0]
    first, second, both, resumed = (
        Rl2(env.spec, config, Streams(5))
        for config in (replace(CONFIG, discount=0.0), replace(CONFIG, discount=0.9), rising, rising)
    )
    first.meta_update(rounds)
    second.load_state_dict(first.state_dict())
    both.meta_update(rounds)
    resumed.load_state_dict(both.state_dict())
    assert_same(both, first)
    for agent in (second, both, resumed):
        agent.meta_update(rounds)
    assert_same(both, second)
    assert_same(both, resumed)
    first.meta_update(rounds)
    assert not torch.equal(
        both.state_dict()["value.layer0.bias"], part(first, "")["value.layer0.bias"]
    )


def assert_same(left: Rl2, right: Rl2) -> None:
    mine, other = left.state_dict(), right.state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_what_acts_for_a_task_is_its_first_copy() -> None:
    env = new_env(False)
    agent = new_agent(env)
    known = lived(agent, env, 1)[1][-1]
    policy, stacked = agent.acting_policy(known)
    assert {name for name in stacked if name.startswith("start.")} == {f"start.{n}" for n in known}
    for name, leaf in known.items():
        assert torch.equal(stacked[f"start.{name}"], leaf[:, 0])
        assert name == "ended" or not torch.equal(leaf[:, 0], leaf[:, 1])
    assert stacked.keys() == policy.init(Streams(0)).keys()
    assert torch.equal(stacked["gru.input_weight"][1], agent.state_dict()["gru.input_weight"])
