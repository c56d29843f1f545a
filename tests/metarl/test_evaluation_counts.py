"""What an evaluation counts: every started episode, its steps, its success, and rounds apart."""

import pytest
import torch

from metarl.evaluation import AdaptationCurve, EvaluationConfig, adaptation_curve
from metarl.seeding import Streams
from metarl.types import Tasks
from tests.conftest import build_world
from tests.metarl.scripted import (
    LENGTHS,
    NEVER,
    SCRIPT,
    STREAMS,
    EchoAgent,
    ScriptedEnv,
    T,
    tasks,
)

K, E = 2, 3
REACHES = torch.tensor([[2, 2, T - 1], [NEVER, 1, 3]])
"""Of the six episodes the first and the third succeed, and in task 1 the second."""
RETURNS = torch.tensor([14.1, 58.4])
"""By task, over all its episodes."""
STEPS = torch.tensor(LENGTHS, dtype=torch.float64).sum(1)


def play(
    episodes: int = E, last: int | None = None, mean: bool = False, trials: bool = False
) -> AdaptationCurve:
    """Evaluate two adaptations where every round goes by the same script."""
    env = ScriptedEnv(SCRIPT._replace(reaches=REACHES))
    env.spec = env.spec._replace(score_is_total=True)
    config = EvaluationConfig(
        episodes=episodes,
        adaptations=2,
        last_episodes=last,
        score_is_mean=mean,
        separate_trials=trials,
    )
    return adaptation_curve(EchoAgent(), env, tasks(K), config, STREAMS)


def test_faulty_and_short_episodes_are_scored_as_all_others() -> None:
    """The script cuts an episode before its first step: it scores 0 and counts."""
    curve = play()
    torch.testing.assert_close(curve.score, RETURNS[:, None].expand(-1, 3))
    torch.testing.assert_close(play(mean=True).score, RETURNS[:, None].expand(-1, 3) / E)
    torch.testing.assert_close(play(trials=True).score, RETURNS[:, None].expand(-1, 3) / E)
    assert curve.faulty.tolist() == [[0] * 3, [3] * 3]


def test_steps_are_those_of_all_copies_before_the_round() -> None:
    assert play().env_steps.tolist() == [[n * steps for n in range(3)] for steps in STEPS.tolist()]


def test_of_separate_trials_each_knows_its_own_steps() -> None:
    expected = STEPS[:, None] / E * torch.arange(3)
    torch.testing.assert_close(play(trials=True).env_steps, expected)


def test_the_success_of_a_round_is_the_share_of_its_episodes() -> None:
    assert play().success.tolist() == [[2 / 3] * 3, [1 / 3] * 3]
    env = ScriptedEnv(SCRIPT)
    config = EvaluationConfig(episodes=E, adaptations=0)
    assert adaptation_curve(EchoAgent(), env, tasks(K), config, STREAMS).success.isnan().all()


class ByRound(ScriptedEnv):
    """The script cut to as many episodes as a round has."""

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> torch.Tensor:
        self._script = type(SCRIPT)(*(leaf[:, :episodes] for leaf in SCRIPT[:2]))
        return super().reset(tasks, episodes, streams)


def test_the_last_round_may_have_another_number_of_episodes() -> None:
    config = EvaluationConfig(episodes=E, adaptations=2, last_episodes=2, score_is_mean=True)
    assert config.rounds == config.in_sight == (3, 3, 2)
    curve = adaptation_curve(EchoAgent(), ByRound(SCRIPT), tasks(K), config, STREAMS)
    # Returns of the first two episodes: 1.0 and 2.1, and 0 and 22.1.
    expected = torch.tensor([[14.1 / 3, 14.1 / 3, 3.1 / 2], [58.4 / 3, 58.4 / 3, 22.1 / 2]])
    torch.testing.assert_close(curve.score, expected)
    assert curve.env_steps.tolist() == [[n * steps for n in range(3)] for steps in STEPS.tolist()]


def test_blocks_of_tasks_count_as_all_of_them_together() -> None:
    world = build_world("maml-trpo", "metarl/PointNavigation-v0")
    held_out = world.distribution.held_out(5)
    curves = []
    for at_once in (5, 2):
        config = EvaluationConfig(episodes=4, adaptations=1, tasks_at_once=at_once)
        agent = world.new_agent()
        curves.append(adaptation_curve(agent, world.env, held_out, config, Streams(1)))
    for name, one, other in zip(AdaptationCurve._fields, *curves, strict=True):
        assert torch.equal(one, other), name


def test_trials_go_through_all_rounds() -> None:
    with pytest.raises(ValueError, match=r"last_episodes: separate trials go through all rounds"):
        EvaluationConfig(episodes=3, adaptations=1, last_episodes=2, separate_trials=True)
    with pytest.raises(ValueError, match=r"EvaluationConfig\.last_episodes must be a whole number"):
        EvaluationConfig(episodes=3, adaptations=1, last_episodes=0)
    trials = EvaluationConfig(episodes=3, adaptations=2, separate_trials=True)
    assert (trials.rounds, trials.in_sight) == ((3, 3, 3), (1, 1, 1))
