"""PPO of Stable-Baselines3 on one task. Imported only when asked for: it takes a while to load."""

import warnings
from collections.abc import Sequence

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Normal

from metarl import envs
from metarl.checks import InputError
from metarl.distributions import Categorical, DiagGaussian
from metarl.envs.sb3 import TaskVecEnv
from metarl.envs.task_dicts import as_dicts
from metarl.evaluation import EvaluationConfig, adaptation_curve
from metarl.experiments.evaluation.scoring import EVALUATION_STREAMS
from metarl.experiments.experiment import Experiment, Parts, threads_for
from metarl.processes import ALONE
from metarl.protocols import HasMemory
from metarl.seeding import Streams
from metarl.types import Acted, Adapted, EnvSpec, Tasks, Trajectories

_BATCH = 64
"""SB3's own size of a minibatch; smaller where a round is."""


class Sb3Policy:
    """A policy of SB3 as the evaluator sees it: it samples its actions, and never adapts."""

    def __init__(self, policy: ActorCriticPolicy, spec: EnvSpec) -> None:
        self._policy, self._spec = policy, spec

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return nothing, for each task."""
        return {"nothing": torch.zeros(num_tasks, 0)}

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Act as SB3 has its policies act: what they sample, cut to shares of the limit."""
        copies = obs.shape[:2]
        seen = self._policy.get_distribution(obs.flatten(0, 1)).distribution
        if isinstance(seen, TorchCategorical):
            choices = Categorical(seen.logits.view(*copies, -1))
            choice = choices.sample(noise)
            return Acted(choice, choices.log_prob(choice), adapted)
        assert isinstance(seen, Normal)
        mean, log_std = (leaf.view(*copies, -1) for leaf in (seen.mean, seen.stddev.log()))
        gaussian = DiagGaussian(mean, log_std)
        share = gaussian.sample(noise)
        action = share.clamp(-1.0, 1.0) * self._spec.action_limit
        return Acted(action, gaussian.log_prob(share), adapted)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Learn nothing: that is for PPO."""
        return adapted


def learn_from_scratch(
    experiment: Experiment, parts: Parts, tasks: Tasks, row: int, scored_after: Sequence[int]
) -> list[float]:
    """Learn one of several tasks; return its score after each of so many rounds, in rising order.

    A score is what it is for the agent in ``parts``, which plays no other part. The tasks are not
    told. Seeds are a function of the experiment's and the row. SB3 sets the global generators of
    numpy and Python by them; torch's is left as it was.

    Raises:
        InputError: a round is a single step, from which PPO cannot learn.
    """
    spec, episodes = parts.env.spec, experiment.episodes
    round_steps = episodes * spec.horizon
    if round_steps == 1:
        raise InputError([f"{spec.name}: a round is one step; PPO needs --episodes above 1"])
    task = tasks.take(slice(row, row + 1))
    seed = Streams(experiment.seed, ("scratch",)).from_task(row).uniform("seed", 1, ())
    copies = TaskVecEnv(
        envs.name_of(experiment.env),
        episodes,
        config=experiment.env,
        threads=threads_for(experiment, ALONE),
    )
    copies.set_tasks(as_dicts(task))
    config = EvaluationConfig(
        episodes=episodes, adaptations=0, separate_trials=isinstance(parts.agent, HasMemory)
    )
    scores = []
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # A round is seldom a multiple of the minibatch: the last one is smaller, and no fault.
        warnings.filterwarnings("ignore", message="You have specified a mini-batch size")
        model = _learner(copies, spec.horizon, int(seed * 2**24))
        agent = Sb3Policy(model.policy, spec)
        for rounds in scored_after:
            missing = rounds * round_steps - model.num_timesteps
            if missing:
                model.learn(missing, reset_num_timesteps=False)
            streams = EVALUATION_STREAMS.from_task(row)
            curve = adaptation_curve(agent, parts.env, task, config, streams)
            scores.append(float(curve.score))
    return scores


def _learner(copies: TaskVecEnv, horizon: int, seed: int) -> PPO:
    batch = min(_BATCH, copies.num_envs * horizon)
    model = PPO("MlpPolicy", copies, n_steps=horizon, batch_size=batch, seed=seed, device="cpu")
    # A logger of SB3's own making leaves an empty folder among the temporary files.
    model.set_logger(Logger(None, []))
    return model
