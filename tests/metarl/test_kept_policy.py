"""Policies as data: what they decide, what their folder holds, and what is refused in it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from metarl.acting import ReactivePolicy
from metarl.checks import InputError
from metarl.files import BrokenFileError
from metarl.kept_policy import KeptPolicy, Made, read_policy, write_policy
from metarl.networks import Activation
from metarl.policies import PolicyConfig, build_policy
from metarl.policy_export import PolicyModule, export
from metarl.seeding import Streams
from metarl.types import ActionRange, EnvSpec
from tests.conftest import far_from_symmetric, load_script

NUMBERS = EnvSpec("test/Numbers-v0", 3, 2, False, 9, score_is_total=False, action_limit=2.0)
CHOICES = NUMBERS._replace(name="test/Choices-v0", action_size=4, discrete=True)
RANGE = ActionRange(torch.tensor([-3.0, 0.0]), torch.tensor([3.0, 10.0]))
MADE = Made(agent="MamlTrpo", env="test/Numbers-v0", task={"goal": [0.5, -1.0]}, seed=3, run="r")


def kept(spec: EnvSpec = NUMBERS, activation: Activation = "tanh") -> KeptPolicy:
    policy = build_policy(spec, PolicyConfig(hidden_sizes=(5, 4), activation=activation))
    params = far_from_symmetric(policy.init(Streams(1)))
    params = {name: leaf.float() for name, leaf in params.items()}
    params["layer2.weight"] *= 3.0
    return KeptPolicy(ReactivePolicy(policy), params, spec, None if spec.discrete else RANGE)


def observations(number: int) -> Tensor:
    return 2.0 * Streams(2).normal("obs", 1, (number, 3))[0]


def decided(policy: KeptPolicy, obs: Tensor, noise: Tensor | None = None) -> Tensor:
    return policy.decide(policy.first(obs), noise)[0]


def output(policy: KeptPolicy, obs: Tensor) -> Any:
    """The network by hand, in float64."""
    layers = [
        (policy.params[f"layer{n}.weight"].double(), policy.params[f"layer{n}.bias"].double())
        for n in range(3)
    ]
    x = obs.double().numpy()
    for number, (weight, bias) in enumerate(layers):
        x = x @ weight.numpy() + bias.numpy()
        x = np.tanh(x) if number < 2 else x
    return x


def test_a_range_takes_shares_of_the_limit() -> None:
    action = torch.tensor([[1.0, 1.0], [-0.5, 0.0], [2.5, -9.0]])
    expected = torch.tensor([[1.5, 7.5], [-0.75, 5.0], [3.0, 0.0]])
    assert torch.equal(RANGE.place(action, 2.0), expected)


def test_the_likeliest_action_is_the_networks_output_within_the_range() -> None:
    policy, obs = kept(), observations(50)
    share = np.clip(output(policy, obs) / 2.0, -1.0, 1.0)
    assert (np.abs(share) == 1.0).any()
    assert (np.abs(share) < 0.9).any()
    expected = np.stack((3.0 * share[:, 0], 5.0 + 5.0 * share[:, 1]), 1)
    assert np.abs(decided(policy, obs).numpy() - expected).max() < 1e-5


def test_the_likeliest_choice_has_the_largest_probability() -> None:
    policy, obs = kept(CHOICES), observations(50)
    assert decided(policy, obs).tolist() == output(policy, obs).argmax(1).tolist()
    assert len(set(decided(policy, obs).tolist())) > 2


def test_drawn_actions_have_the_distribution_of_the_policy() -> None:
    obs, number = torch.zeros(20_000, 3), 20_000
    policy = kept()
    wide = ActionRange(torch.full((2,), -50.0), torch.full((2,), 50.0))
    policy = policy._replace(action_range=wide, spec=NUMBERS._replace(action_limit=50.0))
    action = decided(policy, obs, Streams(5).normal("a", 1, (number, 2))[0])
    std = policy.params["log_std"].exp()
    assert torch.allclose(action.mean(0), decided(policy, obs[:1])[0], atol=5 * 1.5 / number**0.5)
    assert torch.allclose(action.std(0), std, rtol=0.03)
    choices = kept(CHOICES)
    drawn = decided(choices, obs, Streams(5).uniform("a", 1, (number,))[0])
    logits = torch.from_numpy(output(choices, obs[:1]))[0]
    shares = torch.bincount(drawn, minlength=4) / number
    assert torch.allclose(shares.double(), torch.softmax(logits, 0), atol=0.02)


@pytest.mark.parametrize("spec", [NUMBERS, CHOICES])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_policy_comes_back_bit_for_bit(
    spec: EnvSpec, activation: Activation, tmp_path: Path
) -> None:
    policy = kept(spec, activation)
    write_policy(tmp_path / "new" / "folder", policy, MADE)
    back, made = read_policy(tmp_path / "new" / "folder")
    assert made == MADE
    assert (back.policy, back.spec) == (policy.policy, spec)
    assert all(torch.equal(back.params[name], leaf) for name, leaf in policy.params.items())
    assert torch.equal(decided(back, observations(20)), decided(policy, observations(20)))


def edited(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    file = folder / "policy.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about["network"].pop("activation"), "network.activation is missing"),
        (lambda about: about["network"].update(activaton="relu"), "did you mean 'activation'"),
        (lambda about: about["network"].update(activation="sin"), "network.activation must be"),
        (lambda about: about["spec"].update(action_size=0), "spec.action_size must be a whole"),
        (lambda about: about["spec"].update(observation_size=True), "spec.observation_size must"),
        (lambda about: about["spec"].update(action_limit=0.0), "spec.action_limit must be"),
        (lambda about: about["spec"].update(observation_size=4), r"layer0.weight.*\[4, 5\]"),
        (lambda about: about["spec"].update(discrete=True), "choices have no action_low"),
        (lambda about: about.update(action_low=[0.0]), "2 finite numbers, each below"),
        (lambda about: about.update(action_low=[4.0, 0.0]), "2 finite numbers, each below"),
        (lambda about: about.update(action_low=None), "2 finite numbers, each below"),
        (lambda about: about.update(action_low=[-(10**40), 0.0]), "2 finite numbers, each below"),
        (lambda about: about.update(action_low=[3.0 - 1e-11, 0.0]), "2 finite numbers, each below"),
        (
            lambda about: about.update(action_low=[-3.3e38, 0.0], action_high=[3.3e38, 1.0]),
            "at a finite distance",
        ),
        (
            lambda about: about.update(action_low=[3.2e38, 0.0], action_high=[3.3e38, 1.0]),
            "at a finite distance",
        ),
        (lambda about: about["spec"].update(action_limit=1e-300), "spec.action_limit must be"),
        (lambda about: about["network"].update(hidden_sizes=[10**5, 10**5]), "more weights than"),
        (lambda about: about["network"].update(hidden_sizes=[10**30]), "more weights than"),
        (lambda about: about["made"].update(seed="one"), "made.seed must be"),
        (lambda about: about.update(extra=1), "no 'extra'"),
    ],
)
def test_what_does_not_belong_is_refused_by_name(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    write_policy(tmp_path, kept(), MADE)
    edited(change, tmp_path)
    with pytest.raises(InputError, match=said):
        read_policy(tmp_path)


def test_whole_numbers_are_bounds_too(tmp_path: Path) -> None:
    write_policy(tmp_path, kept(), MADE)
    edited(lambda about: about.update(action_low=[-(10**20), 0], action_high=[10**20, 1]), tmp_path)
    edited(lambda about: about["spec"].update(action_limit=10**20), tmp_path)
    policy, _ = read_policy(tmp_path)
    assert policy.action_range is not None
    assert policy.action_range.low.tolist() == [float(np.float32(-1e20)), 0.0]
    share = torch.from_numpy(output(policy, observations(5)))
    low, high = (torch.tensor([[end, float(end > 0)]]) for end in (-1e20, 1e20))
    expected = 0.5 * (low + high) + 0.5 * (high - low) * share / 1e20
    assert torch.allclose(decided(policy, observations(5)).double(), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.complex64])
def test_weights_of_another_dtype_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    policy = kept()
    params = {name: leaf.to(dtype) for name, leaf in policy.params.items()}
    write_policy(tmp_path, policy._replace(params=params), MADE)
    with pytest.raises(InputError, match=r"layer0.weight' should be \[3, 5\] float32, got"):
        read_policy(tmp_path)


def test_broken_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenFileError, match=r"policy\.json: missing"):
        read_policy(tmp_path)
    write_policy(tmp_path, kept(), MADE)
    weights = tmp_path / "policy.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BrokenFileError, match=r"policy\.safetensors: SHA-256 is not"):
        read_policy(tmp_path)
    weights.write_bytes(whole)
    edited(lambda about: about.update(schema=1), tmp_path)
    with pytest.raises(BrokenFileError, match="not a policy of schema 2"):
        read_policy(tmp_path)
    (tmp_path / "policy.json").write_text("[]")
    with pytest.raises(BrokenFileError, match="not a policy of schema 2"):
        read_policy(tmp_path)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    policy = kept()
    policy.params["layer1.bias"][0] = math.nan
    with pytest.raises(BrokenFileError, match=r"'layer1\.bias' is not finite"):
        write_policy(tmp_path, policy, MADE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spec", [NUMBERS, CHOICES])
def test_exported_policies_act_the_same(spec: EnvSpec, tmp_path: Path) -> None:
    policy, obs = kept(spec), observations(7)
    expected = decided(policy, obs)
    assert torch.equal(PolicyModule(policy)(obs), expected)
    export(policy, tmp_path / "policy.pt")
    export(policy, tmp_path / "policy.onnx")
    script = load_script(tmp_path / "policy.pt")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    for rows in (1, 2, 7):
        from_onnx = torch.from_numpy(session.run(None, {"obs": obs[:rows].numpy()})[0])
        for action in (script(obs[:rows]), from_onnx):
            assert action.dtype == expected.dtype
            assert action.shape == expected[:rows].shape
            assert (action - expected[:rows]).abs().max() <= 1e-6


def test_a_module_keeps_its_weights_when_the_policy_moves_on() -> None:
    policy, obs = kept(), observations(4)
    module = PolicyModule(policy)
    before = module(obs)
    policy.params["layer2.bias"].add_(1.0)
    assert torch.equal(module(obs), before)
    assert not torch.equal(decided(policy, obs), before)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.pt \(TorchScript\) or \.onnx \(ONNX\)"):
        export(kept(), tmp_path / "policy.pth")
