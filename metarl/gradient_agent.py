"""What meta-learners share whose knowledge of a task is weights that a gradient has moved."""

from collections.abc import Sequence

from torch import Tensor

from metarl.acting import ActingPolicy, ReactivePolicy
from metarl.adaptation import AdvantageConfig, Lesson, Rounds, prepare, weights_of
from metarl.context import absorbed
from metarl.linearisation import Term
from metarl.meta_gradient import AfterAdaptation, Loop, adapt
from metarl.optimizers import Theta
from metarl.outer_objectives import ratio_surrogate
from metarl.policies import MlpPolicy, StackedActor
from metarl.processes import Processes
from metarl.trust_region import TrustRegionConfig, trust_region_update
from metarl.types import Acted, Adapted, Metrics, Params, Trajectories


class GradientAgent:
    """Begins, acts and adapts from theta; an agent adds how theta learns.

    Args:
        loop: what adapts, and how.
        outer: owns theta.
        advantages: how rewards become advantages.
        processes: those that share the tasks of each meta-update.
    """

    def __init__(
        self, loop: Loop, outer: Theta, advantages: AdvantageConfig, processes: Processes
    ) -> None:
        self.loop, self.outer, self.processes = loop, outer, processes
        self._advantages = advantages
        self._actor = StackedActor(loop.policy)

    def begin(self, num_tasks: int, episodes: int) -> Adapted:
        """Return theta for each task: leaves [K, ...]."""
        return self.loop.begin(self.outer.weights(), num_tasks)

    def act(self, adapted: Adapted, obs: Tensor, noise: Tensor) -> Acted:
        """Act in each task with its own weights."""
        return self._actor.act(weights_of(adapted), obs, noise)._replace(adapted=adapted)

    def acting_policy(self, adapted: Adapted) -> tuple[ActingPolicy, Params]:
        """Return the policy, without a context of its own, and its weights in each task."""
        policy = self.loop.policy
        assert isinstance(policy, MlpPolicy)
        return ReactivePolicy(policy._replace(num_context=0)), absorbed(weights_of(adapted))

    def adapt(self, adapted: Adapted, batch: Trajectories) -> Adapted:
        """Adapt to one round in each task."""
        return adapt(self.loop, adapted, self.lesson(batch))

    def lesson(self, batch: Trajectories) -> Lesson:
        """Return what a round teaches."""
        return prepare(batch, self._advantages)

    def experience(self, rounds: Sequence[Trajectories]) -> Rounds:
        """Return what the rounds of a meta-update teach, each task counting the same."""
        *lessons, last = [self.lesson(batch).to_longest_episode() for batch in rounds]
        return Rounds(lessons, last, self.sample_weights(last))

    def sample_weights(self, lesson: Lesson) -> Tensor:
        """Weigh samples [K, E, T] for the mean over all processes' tasks of means over steps."""
        num_tasks = self.processes.place(len(lesson.mask)).num_tasks
        steps = lesson.mask.sum((1, 2), keepdim=True).clamp(min=1)
        return lesson.mask.to(lesson.log_prob) / (steps * num_tasks)

    def policies(self, rounds: Rounds) -> AfterAdaptation:
        """Return the adapted policies at the last of these rounds, as a function of theta."""
        return AfterAdaptation(self.loop, self.outer.params, rounds, processes=self.processes)

    def earlier(self, rounds: Rounds, adaptations: int) -> Rounds:
        """Return the rounds up to the one after so few adaptations, which becomes the last."""
        last = rounds.lessons[adaptations]
        return Rounds(rounds.lessons[:adaptations], last, self.sample_weights(last))

    def state_dict(self) -> dict[str, Tensor]:
        """Return theta, and what the outer optimiser remembers."""
        return self.outer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over theta, and what the outer optimiser remembers."""
        self.outer.load_state_dict(state, type(self).__name__)


class TrustRegionAgent(GradientAgent):
    """Learns theta by one TRPO step on the last round, whatever its inner loop moves.

    Args:
        loop: what adapts, and how.
        outer: owns theta.
        advantages: how rewards become advantages.
        trust_region: sizes of the step.
        processes: those that share the tasks of each meta-update.
    """

    def __init__(
        self,
        loop: Loop,
        outer: Theta,
        advantages: AdvantageConfig,
        trust_region: TrustRegionConfig,
        processes: Processes,
    ) -> None:
        super().__init__(loop, outer, advantages, processes)
        self._trust_region = trust_region

    def meta_update(self, rounds: Sequence[Trajectories]) -> Metrics:
        """Take one outer step on the last round, through the adaptation by the earlier ones."""
        experience = self.experience(rounds)
        surrogate = ratio_surrogate(experience.last, experience.weights)
        return trust_region_update(
            self.outer,
            [Term(self.policies(experience), surrogate)],
            self._trust_region,
            self.processes.total,
        )
