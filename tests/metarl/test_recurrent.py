"""Networks with memory: the unit's equations, steps against sequences, fresh weights."""

import pytest
import torch

from metarl.policies import PolicyConfig, build_policy
from metarl.recurrent import RecurrentActorCritic, gru, gru_step, init_gru
from metarl.seeding import Streams
from metarl.types import EnvSpec, Params
from tests.conftest import far_from_symmetric

X, H = 3, 4
SPEC = EnvSpec("test", H, 2, False, 5, False)


def weights() -> Params:
    return far_from_symmetric(init_gru(X, H, Streams(1)))


def test_a_step_is_the_units_equations() -> None:
    params = weights()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, X, generator=generator).double()
    memory = torch.randn(2, 5, H, generator=generator).double()
    by_input = (x @ params["input_weight"].T + params["input_bias"]).chunk(3, -1)
    by_memory = (memory @ params["memory_weight"].T + params["memory_bias"]).chunk(3, -1)
    reset, update = ((by_input[i] + by_memory[i]).sigmoid() for i in range(2))
    candidate = (by_input[2] + reset * by_memory[2]).tanh()
    expected = (1 - update) * candidate + update * memory
    torch.testing.assert_close(gru_step(params, x, memory), expected)


def test_a_sequence_is_step_after_step() -> None:
    params = weights()
    x = torch.randn(6, 7, X, generator=torch.Generator().manual_seed(1)).double()
    memory, memories = x.new_zeros(6, H), []
    for time in range(7):
        memory = gru_step(params, x[:, time], memory)
        memories.append(memory)
    torch.testing.assert_close(gru(params, x), torch.stack(memories, 1))


def test_fresh_weights() -> None:
    params = init_gru(X, H, Streams(1))
    limit = (6 / (X + H)) ** 0.5
    assert params["input_weight"].abs().max() <= limit
    assert params["input_weight"].abs().max() > 0.8 * limit
    gates = params["memory_weight"].view(3, H, H)
    torch.testing.assert_close(gates @ gates.mT, torch.eye(H).expand(3, H, H))
    assert not torch.allclose(gates[0], gates[1])
    assert not params["input_bias"].any()
    assert not params["memory_bias"].any()
    again, other = init_gru(X, H, Streams(1)), init_gru(X, H, Streams(2))
    for name in ("input_weight", "memory_weight"):
        assert torch.equal(params[name], again[name])
        assert not torch.equal(params[name], other[name])


def test_units_may_begin_with_memories_of_many_lengths() -> None:
    """Where nothing comes in, a unit of update bias b keeps a share sigmoid(b) in each step."""
    plain, slow = (init_gru(X, 400, Streams(1), longest) for longest in (0, 50))
    reset, update, candidate = slow["input_bias"].chunk(3)
    assert not reset.any()
    assert not candidate.any()
    kept = update.sigmoid()
    lengths = 1.0 / (1.0 - kept)
    assert 2.0 <= lengths.min() < 3.0
    assert 48.0 < lengths.max() <= 50.0
    assert 23.0 < lengths.mean() < 29.0
    for name in ("input_weight", "memory_weight", "memory_bias"):
        assert torch.equal(plain[name], slow[name])
    for short in (1, 2):
        assert not init_gru(X, H, Streams(1), short)["input_bias"].any()


def test_orthogonal_weights_have_no_preferred_sign() -> None:
    drawn = [init_gru(1, 2, Streams(seed))["memory_weight"][0, 0] for seed in range(200)]
    assert 60 < sum(bool(entry > 0) for entry in drawn) < 140


@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_acting_and_learning_see_the_same_network(hidden: tuple[int, ...]) -> None:
    config = PolicyConfig(hidden_sizes=hidden, activation="relu")
    network = RecurrentActorCritic(X, H, build_policy(SPEC, config))
    params = network.init(Streams(2))
    assert {name.split(".")[0] for name in params} == {"gru", "policy", "value"}
    x = torch.randn(6, 5, X, generator=torch.Generator().manual_seed(1))
    distribution, value = network.unroll(params, x)
    memories = gru({name[4:]: leaf for name, leaf in params.items() if name[:4] == "gru."}, x)
    expected = memories
    for layer in range(len(hidden) + 1):
        expected = expected.relu() if layer else expected
        weight, bias = (params[f"value.layer{layer}.{kind}"] for kind in ("weight", "bias"))
        expected = expected @ weight + bias
    torch.testing.assert_close(value, expected[..., 0])
    memory, stepped = network.step(params, x[:, :1], torch.zeros(6, 1, H))
    torch.testing.assert_close(memory, memories[:, :1])
    torch.testing.assert_close(stepped[0], distribution[0][:, :1])
