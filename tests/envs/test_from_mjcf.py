"""A user's MuJoCo model: the functions that come with it, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.checks import EnvFaultError, InputError
from metarl.envs.from_mjcf import Goal, Vary
from metarl.envs.mujoco_env import Array, Moved, Noise
from metarl.envs.mujoco_renderer import Marker, View
from metarl.envs.physics import BatchPhysics
from tests.envs.cart_poles import PAYLOAD, STREAMS, XML, E, door, roll, tasks


def test_the_parts_of_a_body_are_the_users(tmp_path: Path) -> None:
    def observe(physics: BatchPhysics) -> tuple[Array]:
        return (physics.qvel,)

    file = tmp_path / "cart_pole.xml"
    file.write_text(XML)
    source = door(
        xml=file,
        observe=observe,
        noise=Noise(position=0.0, velocity=0.0),
        unhealthy=lambda physics: physics.qpos[:, 0] > -1.0,
        success=lambda moved: moved.after[:, 0] > moved.parameter["place"],
    )
    distribution, env = source.build("cpu", 1)
    assert env.reset(distribution.held_out(2), E, STREAMS).tolist() == [[[0.0, 0.0]] * E] * 2
    step = env.step(torch.zeros(2, E, 1), torch.ones(2, E, dtype=torch.bool))
    assert step.terminated.all()
    assert step.success is not None
    assert (step.success[:, 0] == (distribution.held_out(2).parameter["place"] < 0)).all()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"vary": (Vary("body_mas", "payload", low=1, high=2),)}, "did you mean 'body_mass'"),
        ({"vary": (Vary("body_contype", "payload", low=1, high=2),)}, "model field: no"),
        ({"vary": (Vary("dof_M0", "slide", low=1, high=2),)}, "model field: no 'dof_M0'"),
        (
            {"vary": (Vary("body_mass", "paylod", low=1, high=2),)},
            "element of body_mass: no 'paylod'; did you mean 'payload'",
        ),
        ({"vary": (Vary("dof_damping", "pole", low=1, high=2),)}, "known: slide, hinge"),
        (
            {"vary": (Vary("body_inertia", "payload", low=1, high=2, absolute=True),)},
            "body_inertia of payload is 3 numbers",
        ),
        ({"vary": (PAYLOAD, PAYLOAD)}, "payload.body_mass is there twice"),
        ({"vary": (), "goals": ()}, "only one task"),
        ({"horizon": 0}, "horizon must be a whole number"),
        ({"xml": XML.replace("<joint name", "<joint nam")}, "MJCF: .*unrecognized attribute"),
        ({"xml": Path("no_such.xml")}, r"no_such.xml: .*opening file"),
        ({"xml": XML.replace(' ctrlrange="-1 1"', "")}, "motor 'push' has no ctrlrange"),
        ({"xml": re.sub("(?s)<actuator>.*</actuator>", "", XML)}, "has no motors"),
        ({"xml": None}, "xml must be MJCF as text, or a Path; got None"),
        ({"xml": "cart_pole.xml"}, r"looks like a path: pass Path\('cart_pole.xml'\)"),
        ({"vary": PAYLOAD}, r"vary must be a tuple: a comma is missing in \(Vary"),
        (
            {"goals": ("angle",)},
            r"goals must be a tuple such as \(Goal\(...\),\), got \('angle',\)",
        ),
        ({"outputs": "site_xpos"}, "outputs must be a tuple: a comma is missing"),
        ({"outputs": ("site_xpo",)}, "output: no 'site_xpo'; did you mean 'site_xpos'"),
        ({"reward": None}, "reward must be a function, got None"),
        ({"reward": 1.0}, r"reward must be a function, got 1\.0"),
        ({"unhealthy": True}, "unhealthy must be a function, got True"),
        ({"noise": 0.1}, r"noise must be Noise\(.*got 0\.1"),
        ({"noise": Noise(np.full(3, 0.1), 0.0)}, r"position has shape \(3,\); .* \(2,\)"),
        ({"view": "side"}, "view must be View"),
        ({"name": ""}, "name must be a name, such as 'my/CartPole-v0'; got ''"),
        ({"name": None}, "name must be a name"),
    ],
)
def test_what_does_not_fit_is_refused(more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        door(**more)


def raising(_moved: Moved) -> Array:
    raise KeyError("plaec")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reward": lambda _: 1.0}, r"reward in step 1 must return an array \(3,\).*got float 1"),
        ({"reward": lambda _: np.float64(1.0)}, "reward in step 1 must return .*got float64"),
        (
            {"reward": lambda moved: moved.after[:, :1]},
            r"reward in step 1 .* got an array \(3, 1\) of float64",
        ),
        ({"reward": lambda moved: torch.zeros(len(moved.after))}, "reward .* got Tensor"),
        (
            {"reward": raising},
            r"raised KeyError: 'plaec' \(test_from_mjcf.py, line \d+, in raising",
        ),
        (
            {"unhealthy": lambda physics: physics.qpos[:, 0]},
            r"unhealthy in step 1 must return an array \(3,\) of bool, got an array",
        ),
        ({"unhealthy": lambda _: False}, "unhealthy in step 1 .* got bool False"),
        ({"success": lambda moved: 1.0 * moved.after[:, 0]}, "success in step 1 must .* of bool"),
        ({"observe": lambda physics: physics.qpos}, "observe must return a tuple of arrays"),
        (
            {"observe": lambda physics: (physics.qpos[:, 0],)},
            r"observe must return arrays \(1, n\)",
        ),
        (
            {"measure": lambda _: 0.0},
            r"measure in step 1 must return an array \(3, ...\), got float",
        ),
        ({"arrange": lambda qpos, _v, _p: qpos[:, 9]}, "arrange raised IndexError"),
        (
            {"reward": lambda moved: moved.physics.output("site_xpos")[:, 0, 0]},
            "reward in step 1 raised .* no 'site_xpos'; .*must be named in outputs",
        ),
    ],
)
def test_what_a_function_returns_and_raises_is_named(more: dict[str, Any], said: str) -> None:
    with pytest.raises(EnvFaultError, match=f"^my/CartPole-v0: .*{said}"):
        door(**more)


def test_what_goes_wrong_later_says_when() -> None:
    tired: list[int] = []

    def pay_for_a_while(moved: Moved) -> Array:
        tired.append(1)
        return np.zeros(len(moved.after) if len(tired) < 4 else 1)

    distribution, env = door(reward=pay_for_a_while).build("cpu", 1)
    env.reset(distribution.held_out(2), E, STREAMS)
    running = torch.ones(2, E, dtype=torch.bool)
    for _ in range(2):
        env.step(torch.zeros(2, E, 1), running)
    with pytest.raises(EnvFaultError, match=r"reward in step 3 must return an array \(4,\)"):
        env.step(torch.zeros(2, E, 1), running)


def test_a_view_of_the_state_measures_as_a_copy_does() -> None:
    which = tasks([1.0, 2.5], [0.125, 0.5])
    rewards = [
        roll(door(measure=measure, reward=lambda moved: moved.velocity[:, 0]), which)[1]
        for measure in (lambda physics: physics.qpos, lambda physics: physics.qpos.copy())
    ]
    assert torch.equal(*rewards)
    assert rewards[0].abs().min() > 0


def test_rewards_may_be_paid_on_a_site() -> None:
    xml = XML.replace(
        '<geom name="payload"', '<site name="tip" pos="0 0 0.1"/><geom name="payload"'
    )
    distribution, env = door(
        xml=xml,
        vary=(),
        outputs=("site_xpos",),
        reward=lambda moved: moved.physics.output("site_xpos")[:, 0, 2],
        view=View(distance=2.0),
        markers=lambda _place, task: [Marker(np.array([task["place"], 0.0, 0.0]))],
    ).build("cpu", 1)
    env.reset(distribution.held_out(1), 1, STREAMS)
    step = env.step(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))
    assert step.reward.item() == pytest.approx(0.7, abs=1e-2)  # 0.6 m of pole, 0.1 m above it
    assert env.body.view.distance == 2.0
    assert env.body.markers is not None


def test_a_broken_file_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "robot.xml").write_text("<mujoco><worldbody><body/></mujoco>")
    with pytest.raises(InputError, match=r"robot.xml: .*XML"):
        door(xml=tmp_path / "robot.xml")
    assert [path.name for path in tmp_path.iterdir()] == ["robot.xml"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Goal("place", low=1.0, high=1.0), "Goal place: low must be below high"),
        (lambda: Goal("place", low=float("nan"), high=1.0), "Goal.low must be a number"),
        (
            lambda: Vary("body_mass", "payload", low=1.0, high=2.0, shifted=(3.0, 2.0)),
            "Vary payload.body_mass: shifted must be two numbers",
        ),
        (
            lambda: Vary("body_mass", "payload", low=1.0, high=2.0, shifted=3.0),  # type: ignore[arg-type]
            "shifted must be two numbers, the lower first; got 3.0",
        ),
        (lambda: Vary("body_mass", "payload", low=-2.0, high=2.0), r"above 0, got -2\.0"),
        (
            lambda: Vary("dof_damping", "slide", low=1.0, high=2.0, shifted=(-1.0, 0.5)),
            r"slide.dof_damping: what dof_damping gets must be at least 0, got -1\.0",
        ),
        (lambda: Vary("body_mass", "", low=1.0, high=2.0), "element must be a name, got ''"),
        (lambda: Vary((), "payload", low=1.0, high=2.0), "field must be a name or a tuple"),
        (lambda: Vary(3, "payload", low=1.0, high=2.0), "field must be a name or a tuple"),  # type: ignore[arg-type]
        (lambda: Goal("", low=1.0, high=2.0), "Goal.name must be a name"),
        (lambda: Goal("task_id", low=1.0, high=2.0), "Goal.name must not be 'task_id'"),
    ],
)
def test_ranges_that_are_none_are_refused(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
