"""Bandits and small Markov decision processes as tables; a bandit is the one-state case.

Task parameters, for S states and A actions (arms):

=============== =============== =============== ==================================
name            BernoulliBandit GaussianBandit  TabularMDP
=============== =============== =============== ==================================
``reward_mean`` [1, A], U[0, 1] the same        [S, A], N(1, 1)
``transition``  absent          absent          [S, A, S], P(.|s, a) ~ Dirichlet(1)
=============== =============== =============== ==================================

Observation. The state, one-hot (S entries); a bandit's is the constant 1.

Action. One of A.

Reward. Bernoulli(mean) for the Bernoulli bandit, otherwise N(mean, 1). No unit.

Horizon. A parameter. n pulls of a bandit are n episodes of length 1 for learners that adapt by
gradients, or one episode of length n for learners with memory. The MDP runs for 10 steps. Never
terminates: every episode ends by its time limit.

Start. State 0.

Score of a round: the total reward over its episodes, as in the tables of the papers.

Source. Duan et al. 2016 (RL^2), sections 3.1 (Bernoulli bandit) and 3.2 (MDP). The Gaussian bandit
is ours (preset ``default``): the same means, with normal noise. What can be reached is worked out
in ``metarl.envs.bandit_ceilings`` and ``metarl.envs.mdp_ceilings``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from metarl.checks import COUNT, check_fields
from metarl.envs.refusals import refuse_other_actions, refuse_other_tasks
from metarl.envs.task_lists import EndlessTasks
from metarl.seeding import Streams
from metarl.types import EnvSpec, Parameter, Step, Tasks

Reward: TypeAlias = Literal["bernoulli", "gaussian"]

_ANY = 1e6  # rewards of a user's own tasks; those that are drawn lie within 1 +- 6


@dataclass(frozen=True, kw_only=True)
class BernoulliBanditConfig:
    """Arms that pay 1 with a hidden probability, else 0."""

    num_arms: int = 5
    """k, the number of arms."""
    horizon: int = 1
    """Pulls in one episode."""

    def __post_init__(self) -> None:
        check_fields(self, {"num_arms": COUNT, "horizon": COUNT})


@dataclass(frozen=True, kw_only=True)
class GaussianBanditConfig(BernoulliBanditConfig):
    """Arms that pay a hidden mean plus standard normal noise."""


@dataclass(frozen=True, kw_only=True)
class TabularMDPConfig:
    """Random finite MDPs."""

    num_states: int = 10
    """S."""
    num_actions: int = 5
    """A."""
    horizon: int = 10
    """Steps in one episode."""

    def __post_init__(self) -> None:
        check_fields(self, {"num_states": COUNT, "num_actions": COUNT, "horizon": COUNT})


BERNOULLI_PRESETS: Mapping[str, BernoulliBanditConfig] = {
    "rl2-2016": BernoulliBanditConfig(),
    "rl2-2016-k10": BernoulliBanditConfig(num_arms=10),
    "rl2-2016-k50": BernoulliBanditConfig(num_arms=50),
}
GAUSSIAN_PRESETS: Mapping[str, GaussianBanditConfig] = {"default": GaussianBanditConfig()}
MDP_PRESETS: Mapping[str, TabularMDPConfig] = {"rl2-2016": TabularMDPConfig()}


class TabularEnv:
    """E copies of each of K finite MDPs. Owns their states and the noise of the round."""

    threads = 1

    def __init__(
        self, spec: EnvSpec, parameters: Iterable[str], reward: Reward, device: str
    ) -> None:
        self.spec, self._parameters = spec, tuple(parameters)
        self._reward, self._device = reward, device

    def reset(self, tasks: Tasks, episodes: int, streams: Streams) -> Tensor:
        """Start E episodes of each task in state 0; return obs [K, E, S]."""
        refuse_other_tasks(self.spec, self._parameters, tasks)
        num_tasks = len(tasks.task_id)
        parameter = {name: leaf.to(self._device) for name, leaf in tasks.parameter.items()}
        self._reward_mean = parameter["reward_mean"]
        transition = parameter.get("transition")
        self._cumulative = None if transition is None else transition.cumsum(-1)
        self._state = torch.zeros(num_tasks, episodes, dtype=torch.int64, device=self._device)
        self._task = torch.arange(num_tasks, device=self._device)[:, None]
        self._time = 0
        self._reward_noise, self._next_noise = self._draw(streams)
        return self._observe()

    def restart(self, copies: Tensor, streams: Streams) -> Tensor:
        """Start a new episode in ``copies`` [K, E] bool; return obs [K, E, S]."""
        # The others go on in the middle of their noise: its slots are used in a circle, so that
        # each copy meets every slot once in an episode, wherever it begins.
        chosen = copies[..., None]
        reward_noise, next_noise = self._draw(streams)
        self._reward_noise = torch.where(chosen, reward_noise, self._reward_noise)
        self._next_noise = torch.where(chosen, next_noise, self._next_noise)
        self._state = torch.where(copies, 0, self._state)
        return self._observe()

    def step(self, action: Tensor, running: Tensor) -> Step:
        """Apply actions [K, E] to the running copies."""
        refuse_other_actions(self.spec, action, running.shape)
        slot = self._time % self.spec.horizon
        mean = self._reward_mean[self._task, self._state, action]
        noise = self._reward_noise[:, :, slot]
        reward = (noise < mean).to(mean) if self._reward == "bernoulli" else mean + noise
        if self._cumulative is not None:
            cumulative = self._cumulative[self._task, self._state, action]
            uniform = self._next_noise[:, :, slot, None]
            following = (uniform >= cumulative[..., :-1]).sum(-1)
            self._state = torch.where(running, following, self._state)
        self._time += 1
        never = torch.zeros_like(running)
        return Step(self._observe(), reward, terminated=never, faulty=never)

    def _draw(self, streams: Streams) -> tuple[Tensor, Tensor]:
        """Draw the noise of rewards and of transitions, [K, E, T]; a bandit has none of these."""
        num_tasks, episodes = self._state.shape
        shape = (episodes, self.spec.horizon)
        draw = streams.uniform if self._reward == "bernoulli" else streams.normal
        reward_noise = draw("reward", num_tasks, shape).to(self._device)
        if self._cumulative is None:
            return reward_noise, reward_noise[..., :0]
        return reward_noise, streams.uniform("next state", num_tasks, shape).to(self._device)

    def _observe(self) -> Tensor:
        one_hot = torch.nn.functional.one_hot(self._state, self.spec.observation_size)
        return one_hot.to(torch.float32)


def draw_bandits(num_tasks: int, streams: Streams, num_arms: int) -> dict[str, Tensor]:
    """Draw K bandits whose arms have means from U[0, 1], independently."""
    return {"reward_mean": streams.uniform("mean", num_tasks, (1, num_arms))}


def draw_mdps(
    num_tasks: int, streams: Streams, num_states: int, num_actions: int
) -> dict[str, Tensor]:
    """Draw K MDPs with Dirichlet(1) transitions and reward means from N(1, 1)."""
    uniform = streams.uniform("transition", num_tasks, (num_states, num_actions, num_states))
    # Standard exponentials divided by their sum are Dirichlet(1); log1p keeps 0 out of the log, and
    # float64 keeps the last bits of these frozen tasks the same on every processor.
    exponential = -torch.log1p(-uniform.double())
    transition = (exponential / exponential.sum(-1, keepdim=True)).float()
    reward_mean = 1.0 + streams.normal("mean", num_tasks, (num_states, num_actions))
    return {"reward_mean": reward_mean, "transition": transition}


def build_bandit(
    name: str, config: BernoulliBanditConfig, device: str, _threads: int
) -> tuple[EndlessTasks, TabularEnv]:
    """Build the distribution and the environment of either bandit."""
    spec = EnvSpec(name, 1, config.num_arms, True, config.horizon, score_is_total=True)
    reward: Reward = "gaussian" if isinstance(config, GaussianBanditConfig) else "bernoulli"
    low, high = (-_ANY, _ANY) if reward == "gaussian" else (0.0, 1.0)
    about = Parameter("mean payoff of each arm", "", (1, config.num_arms), low, high)
    draw = partial(draw_bandits, num_arms=config.num_arms)
    bandits = EndlessTasks(name, draw, device, {"reward_mean": about})
    return bandits, TabularEnv(spec, bandits.parameters, reward, device)


def build_mdp(
    name: str, config: TabularMDPConfig, device: str, _threads: int
) -> tuple[EndlessTasks, TabularEnv]:
    """Build the distribution and the environment of the random MDPs."""
    states, actions = config.num_states, config.num_actions
    spec = EnvSpec(name, states, actions, True, config.horizon, score_is_total=True)
    draw = partial(draw_mdps, num_states=states, num_actions=actions)
    parameters = {
        "reward_mean": Parameter("mean reward of (s, a)", "", (states, actions), -_ANY, _ANY),
        "transition": Parameter(
            "P(s' | s, a)", "", (states, actions, states), 0.0, 1.0, fault=_not_a_distribution
        ),
    }
    mdps = EndlessTasks(name, draw, device, parameters)
    return mdps, TabularEnv(spec, mdps.parameters, "gaussian", device)


def _not_a_distribution(transition: Tensor) -> str | None:
    total = transition.sum(-1)
    if (total - 1.0).abs().max() < 1e-3:
        return None
    return f"probabilities that sum to 1 over s', these sum to {float(total.min()):.4g} somewhere"
