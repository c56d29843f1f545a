"""RL^2 (Duan et al. 2016; Wang et al. 2016): the memory of a recurrent policy learns the task.

The papers' letters:

* M: a task, drawn from rho_M. A *trial* is n episodes of one task, one after the other; its steps
  are one long episode of the outer problem. Here the N + 1 rounds of a meta-iteration are its
  episodes, and the E copies of a task are E trials, none of which knows of another.
* h_t: the memory, 0 at the start of a trial, kept from an episode to the next, never passed on from
  trial to trial. h_t = GRU(x_t, h_{t-1}).
* x_t = (s_t, a_{t-1}, r_{t-1}, d_{t-1}): observation, last action (one-hot where it is a choice),
  last reward in its own units, and the end flag: 1 at the first step of every episode but the
  trial's first. There s_t is the start of the new episode, a and r are those of the last step of
  the old one. At the start of a trial all but s_t are 0.
* pi(a|h_t), V(h_t): a linear layer each on the memory, or a perceptron each.

The outer problem is an ordinary one, solved by an ordinary algorithm, here PPO in place of TRPO
(Duan et al.) and actor-critic (Wang et al.). It raises the discounted sum of all rewards of a
trial,

    E[sum_t gamma^t r_t],    t = 0, 1, ... from the start of the trial to its end,

so that an episode's end changes nothing in the sums: reward that exploring costs now and earns in
later episodes is weighed in one sum. After the trial's last step there is nothing to earn, whether
that episode terminated or ran out of time.

With A_t the generalised advantages over the whole trial, standardised over all steps, and
rho_t = pi(a_t|h_t) / pi_old(a_t|h_t), each minibatch of whole trials gives a step of
Adam, or of Muon (``metarl.muon``), on

    E[min(rho_t A_t, clip(rho_t, 1 +- epsilon) A_t)] + c_H E[H(pi)] - c_V E[(v_t - y_t)^2]

with R_t = A_t + V_old(h_t) before the standardisation, mu and sigma its mean and deviation over all
steps, y_t = (R_t - mu) / sigma, and v the network's output, for V = mu + sigma v: neither c_V nor
the pace at which values are learned depends on the unit of the rewards. When a meta-update brings
a new mu and sigma, v is rescaled so that V stays what it was (PopArt, van Hasselt et al. 2016, who
take running averages).
sigma is 1/4 at least, since R_t is the value's own noise where no trial has found a reward
(``trial_targets.LEAST_SCALE``). Memories are computed anew from the start of each trial, and
gradients run back through all of it. gamma may rise from 0 as learning goes on
(``raise_discount``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from metarl import trees
from metarl.acting import ActingPolicy, RecurrentPolicy, build_recurrent, encoded, joined
from metarl.checks import COUNT, COUNT_OR_ZERO, check_fields
from metarl.cuda_graphs import Replayed
from metarl.distributions import Distribution
from metarl.optimizers import MetaOptimizer
from metarl.policies import PolicyConfig
from metarl.ppo import PpoConfig, improve
from metarl.processes import ALONE, Processes
from metarl.protocols import Amounts
from metarl.recurrent import full_precision
from metarl.seeding import Streams
from metarl.trial_targets import Spread, gather, trial_advantages
from metarl.trials import Trials, join, previous
from metarl.types import Acted, Adapted, EnvSpec, Metrics, Outcome, Params, Trajectories

_NUM_UPDATES, _MEAN, _DEVIATION = "num_updates", "targets/mean", "targets/deviation"


@dataclass(frozen=True, kw_only=True)
class Rl2Config(PpoConfig):
    """RL^2 with a layer of gated recurrent units and PPO."""

    memory_size: int = 64
    """Gated recurrent units."""
    longest_memory: int = 0
    """Steps, 3 or more: at first, units forget within 2 to this many of them, each at a pace of its
    own; with 0, all forget half in each step."""
    policy: PolicyConfig = field(default_factory=lambda: PolicyConfig(hidden_sizes=()))
    """Layers between the memory and the action, and as many others between it and the value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fields(
            self,
            {"memory_size": COUNT, "longest_memory": COUNT_OR_ZERO},
            "Rl2Config.longest_memory must be 0 or at least 3, got"
            f" {self.longest_memory}: units that forget within 2 steps are those of 0"
            if self.longest_memory in (1, 2)
            else None,
        )

    def fault_with(self, amounts: Amounts) -> str | None:
        """Say what is wrong with so few trials; None where they are enough."""
        return self.fault_in_trials(amounts.tasks_per_update * amounts.episodes)


class Rl2:
    """Owns the weights of the recurrent network, the same for all tasks, and their optimiser."""

    def __init__(
        self, spec: EnvSpec, config: Rl2Config, streams: Streams, processes: Processes = ALONE
    ) -> None:
        self.config, self.processes = config, processes
        self._spec, self._streams = spec, streams
        self._policy = build_recurrent(
            spec, config.policy, config.memory_size, config.longest_memory
        )
        self.network = self._policy.network
        self._optimizer = MetaOptimizer(
            self.network.init(streams),
            config.optimizer,
            config.learning_rate,
            self.network.stacked,
        )
        self._num_updates = 0
        # The first values say nothing, and count as 0.
        nothing = torch.zeros((), dtype=torch.float64, device=streams.device)
        self._spread = Spread(nothing, nothing)
        self._step = Replayed(partial(_decide, self._policy))

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return the start of K * E trials: memory, last action, reward and end flag, all 0."""
        return self._policy.begin((num_tasks, episodes), self._streams.device)

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Take in x_t and act by the new memory, which ``adapted`` of the result holds."""
        inputs = self._optimizer.params | {f"known {name}": x for name, x in adapted.items()}
        result = self._step(inputs | {"obs": obs, "noise": noise})
        known = adapted | {"memory": result["memory"]}
        return Acted(result["action"], result["log_prob"], known)

    def remember(self, before: Adapted, acted: Acted, outcome: Outcome) -> Adapted:
        """Keep memory, action and reward where the step counts, and the end flag everywhere."""
        after = {
            "memory": acted.adapted["memory"],
            "action": encoded(acted.action, self._spec.action_size),
            "reward": outcome.reward,
        }
        known = {
            name: torch.where(_like(outcome.counted, leaf), leaf, before[name])
            for name, leaf in after.items()
        }
        return known | {"ended": outcome.ended.to(outcome.reward)}

    def acting_policy(self, adapted: Adapted) -> tuple[ActingPolicy, Params]:
        """Return the policy, and its weights with what the first copy of each task knows."""
        return self._policy, self._policy.going_on(self._optimizer.weights(), adapted)

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Return what is known: the memory has learned all of it while acting."""
        return adapted

    @full_precision()
    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Improve the policy by PPO on the trials that the rounds make."""
        trials = join(rounds)
        x = trial_inputs(trials, self._spec)
        with torch.no_grad():
            _, output = self.network.unroll(self._optimizer.params, x)
            value = self._spread.restore(output)
            estimates = trial_advantages(
                trials.reward,
                value,
                trials.mask,
                self.config.discount_at(self._num_updates),
                self.config.gae_lambda,
            )
        samples, spread = gather(
            trials.action, trials.log_prob, estimates, trials.mask, self.processes
        )
        self._standardise_by(spread)
        step_size = self.config.step_size(self._num_updates)
        self._optimizer.set_step_size(step_size)
        entropy_weight = self.config.entropy_weight(self._num_updates)

        def judge(params: Params, rows: Tensor) -> tuple[Distribution, Tensor]:
            return self.network.unroll(params, x[rows])

        metrics = improve(
            self._optimizer,
            judge,
            samples,
            replace(self.config, entropy_coefficient=entropy_weight),
            self._streams.at("minibatches", self._num_updates),
            self.processes,
        )
        self._num_updates += 1
        return metrics | {"train/learning_rate": step_size}

    def state_dict(self) -> dict[str, Tensor]:
        """Return weights, the optimiser's memory, mu, sigma, and the number of updates.

        That number names the shuffling.
        """
        mean, deviation = (leaf.clone() for leaf in self._spread)
        own = {_NUM_UPDATES: torch.tensor(self._num_updates), _MEAN: mean, _DEVIATION: deviation}
        return self._optimizer.state_dict() | own

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        taken = trees.take_over(self.state_dict(), state, "Rl2")
        self._num_updates = int(taken.pop(_NUM_UPDATES))
        self._spread = Spread(taken.pop(_MEAN), taken.pop(_DEVIATION))
        self._optimizer.load_state_dict(taken, "Rl2")

    def _standardise_by(self, spread: Spread) -> None:
        """Take over mu and sigma of the newest targets, and let values say what they said."""
        if self._num_updates:
            factor, summand = self._spread.change_to(spread)
            params = self._optimizer.params
            self._optimizer.overwrite(self.network.with_values(params, factor, summand))
        self._spread = spread


def _decide(policy: RecurrentPolicy, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    known = {name: inputs[f"known {name}"] for name in ("memory", "action", "reward", "ended")}
    memory, distribution = policy.decide(dict(inputs), known, inputs["obs"])
    action = distribution.sample(inputs["noise"])
    return {"memory": memory, "action": action, "log_prob": distribution.log_prob(action)}


def trial_inputs(trials: Trials, spec: EnvSpec) -> Tensor:
    """Return x_t [N, L, I] along trials, as acting saw it."""
    action = previous(encoded(trials.action, spec.action_size))
    reward = previous(trials.reward)
    return joined(trials.obs, action, reward, trials.resumed.to(reward))


def _like(flags: Tensor, leaf: Tensor) -> Tensor:
    """View flags [K, E] so that they broadcast against [K, E, ...]."""
    return flags.view(*flags.shape, *[1] * (leaf.dim() - 2))
