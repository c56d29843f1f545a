"""Recorded rounds, replayed: the environment goes the same way, or the replay says that it left."""

from collections.abc import Sequence

import pytest
import torch

from metarl.protocols import CanDrawPaths
from metarl.sampler import adaptation_rounds, replay
from metarl.seeding import Streams
from metarl.types import Trajectories
from tests.conftest import World, build_world
from tests.metarl.scripted import LENGTHS, SCRIPT, STREAMS, EchoAgent, ScriptedEnv, T, tasks

MEETING = Streams(5, ("replay",)).from_task(3)
NAVIGATION = "metarl/PointNavigation-v0"


def met(world: World) -> Sequence[Trajectories]:
    rounds = adaptation_rounds(
        world.env, world.distribution.held_out(2), world.new_agent(), 3, 1, MEETING
    )
    return [batch for batch, _ in rounds]


@pytest.mark.parametrize("agent", ["maml-trpo", "rl2"])
def test_every_environment_goes_the_recorded_way(agent: str, env_name: str) -> None:
    world = build_world(agent, env_name)
    rounds = met(world)
    again = build_world(agent, env_name).env
    for number, batch in enumerate(rounds):
        times = replay(again, world.distribution.held_out(2), batch, number, MEETING)
        assert list(times) == list(range(world.env.spec.horizon + 1))


def test_between_two_times_the_environment_is_where_the_record_has_it() -> None:
    world = build_world("maml-trpo", NAVIGATION)
    batch = met(world)[1]
    env = build_world("maml-trpo", NAVIGATION).env
    assert isinstance(env, CanDrawPaths)
    for time in replay(env, world.distribution.held_out(2), batch, 1, MEETING):
        for task, episode in ((0, 0), (1, 2)):
            place = torch.from_numpy(env.place(task, episode)).float()
            assert torch.equal(place, batch.obs[task, episode, time])


def test_only_what_ran_is_stepped_and_what_follows_an_end_or_a_fault_is_not_compared() -> None:
    script, agent = ScriptedEnv(SCRIPT), EchoAgent()
    ((batch, _),) = adaptation_rounds(script, tasks(2), agent, 3, 0, STREAMS)
    after = torch.arange(T + 1) > torch.tensor(LENGTHS)[..., None]
    garbled = batch._replace(obs=torch.where(after[..., None], -1.0, batch.obs))
    env = ScriptedEnv(SCRIPT)
    assert len(list(replay(env, tasks(2), garbled, 0, STREAMS))) == T + 1
    assert torch.equal(torch.stack(env.ran, -1), batch.mask)
    last = garbled.obs.clone()
    last[0, 1, LENGTHS[0][1]] = 7.0  # where the episode ended is still its own
    with pytest.raises(RuntimeError, match="time 2: the replay has left"):
        list(replay(ScriptedEnv(SCRIPT), tasks(2), garbled._replace(obs=last), 0, STREAMS))


def test_another_start_or_another_action_is_noticed() -> None:
    world = build_world("maml-trpo", "metarl/HalfCheetahDir-v0")
    held_out, batch = world.distribution.held_out(2), met(world)[1]
    for number, streams in ((0, MEETING), (1, MEETING.from_task(1))):
        with pytest.raises(RuntimeError, match=f"round {number}, time 0"):
            next(replay(world.env, held_out, batch, number, streams))
    batch.action[1, 0, 4] += 1e-3
    with pytest.raises(RuntimeError, match="time 5: the replay has left"):
        list(replay(world.env, held_out, batch, 1, MEETING))
