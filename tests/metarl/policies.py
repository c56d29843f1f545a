"""Policies for tests: one that is no perceptron, and one that counts its forward passes."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metarl.distributions import DiagGaussian
from metarl.policies import GaussianPolicy
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params


class WavePolicy(NamedTuple):
    """A Gaussian over waves of the observation: no perceptron, and weights of other names."""

    spec: EnvSpec

    def init(self, streams: Streams) -> Params:
        size = self.spec.observation_size
        frequency = 2.0 * streams.uniform("frequency", 1, (size, 4))[0]
        amplitude = streams.uniform("amplitude", 1, (4, self.spec.action_size))[0]
        return {"frequency": frequency, "amplitude": amplitude, "width": torch.tensor(0.5)}

    def distribution(self, params: Params, obs: Tensor) -> DiagGaussian:
        mean = torch.sin(obs @ params["frequency"]) @ params["amplitude"]
        return DiagGaussian(mean, torch.tanh(params["width"] + 0.1 * mean))


class CountingPolicy(GaussianPolicy):
    """A Gaussian perceptron that notes each of its forward passes."""

    passes: ClassVar[list[int]] = []

    def head(self, params: Params, output: Tensor) -> DiagGaussian:
        self.passes.append(len(self.passes))
        return super().head(params, output)
