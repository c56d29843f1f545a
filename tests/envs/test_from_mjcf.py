"""A user's MuJoCo model: what varies, what is refused, and how it moves."""

import re
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.checks import EnvFaultError, InputError
from metarl.envs.from_mjcf import FromMjcf, Goal, Vary
from metarl.envs.mujoco_env import Array, Moved, Noise
from metarl.envs.mujoco_renderer import Marker, View
from metarl.envs.physics import BatchPhysics
from metarl.seeding import Streams
from metarl.types import Tasks

TEMPLATE = Path(__file__).resolve().parents[2] / "docs" / "templates" / "cart_pole.xml"
XML = TEMPLATE.read_text()
PAYLOAD = Vary(("body_mass", "body_inertia"), "payload", low=0.5, high=3.0)
DAMPING = Vary("dof_damping", "slide", low=0.0, high=2.0, absolute=True, shifted=(2.0, 3.0))
PLACE = Goal("place", low=-1.0, high=1.0, unit="m")
E, T = 2, 20
STREAMS = Streams(5, ("test",))


def pay(moved: Moved) -> Array:
    return moved.parameter["place"] - moved.after[:, 0]


def door(**more: Any) -> FromMjcf:
    fields: dict[str, Any] = {
        "name": "my/CartPole-v0",
        "xml": XML,
        "reward": pay,
        "horizon": T,
        "substeps": 2,
        "vary": (PAYLOAD, DAMPING),
        "goals": (PLACE,),
    }
    return FromMjcf(**fields | more)


def tasks(payload: list[float], damping: list[float]) -> Tasks:
    number = len(payload)
    leaves = {"payload.body_mass": payload, "slide.dof_damping": damping, "place": [0.5] * number}
    return Tasks(torch.arange(number), {n: torch.tensor(x) for n, x in leaves.items()})


def roll(source: FromMjcf, which: Tasks, first: Tasks | None = None) -> tuple[Tensor, Tensor]:
    """Observations [K, E, T+1, O] and rewards [K, E, T] under actions that episodes share."""
    _, env = source.build("cpu", 1)
    if first is not None:
        env.reset(first, E, STREAMS)
    number = len(which.task_id)
    action = STREAMS.normal("action", 1, (E, T, 1)).expand(number, -1, -1, -1)
    obs, rewards = [env.reset(which, E, STREAMS)], []
    for now in action.unbind(2):
        step = env.step(now, torch.ones(number, E, dtype=torch.bool))
        obs.append(step.obs)
        rewards.append(step.reward)
    return torch.stack(obs, 2), torch.stack(rewards, 2)


def test_each_copy_moves_as_in_a_model_of_its_own() -> None:
    which = tasks([1.0, 2.5, 0.5], [0.125, 0.5, 1.5])
    obs, reward = roll(door(), which)
    action = STREAMS.normal("action", 1, (E, T, 1)).double().clamp(-1, 1)[0]
    for place in range(3):
        model = mujoco.MjModel.from_xml_string(XML)
        payload = model.body("payload").id
        factor = float(which.parameter["payload.body_mass"][place])
        model.body_mass[payload] *= factor
        model.body_inertia[payload] *= factor
        model.dof_damping[0] = float(which.parameter["slide.dof_damping"][place])
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)
        for episode in range(E):
            mujoco.mj_resetData(model, data)
            # The start has no more digits than the observation shows.
            start = obs[place, episode, 0].double().numpy()
            data.qpos[:], data.qvel[:] = start[:2], start[2:]
            for time in range(T):
                data.ctrl[0] = float(action[episode, time])
                mujoco.mj_step(model, data, 2)
                here = np.concatenate((data.qpos, data.qvel))
                np.testing.assert_allclose(obs[place, episode, time + 1], here, atol=1e-4)
                expected = pytest.approx(0.5 - data.qpos[0], abs=1e-4)
                assert float(reward[place, episode, time]) == expected


def test_a_factor_of_1_is_the_model_as_it_stands() -> None:
    plain = Vary("geom_friction", "rail", low=0.5, high=2.0)
    nominal = Tasks(torch.arange(1), {"rail.geom_friction": torch.ones(1), "place": torch.ones(1)})
    ours = Tasks(
        torch.arange(1),
        {"payload.body_mass": torch.ones(1), "place": torch.ones(1)},
    )
    goal = Tasks(torch.arange(1), {"place": torch.ones(1)})
    expected = roll(door(vary=()), goal)
    for source, which in ((door(vary=(plain,)), nominal), (door(vary=(PAYLOAD,)), ours)):
        # Factors of tasks before leave nothing behind.
        others = source.build("cpu", 1)[0].sample(1, STREAMS)
        for one, other in zip(roll(source, which, others), expected, strict=True):
            assert torch.equal(one, other)


def test_what_mujoco_derives_follows_what_varies() -> None:
    _, env = door(vary=(PAYLOAD,)).build("cpu", 1)
    which = tasks([1.0, 3.0], [0.0, 0.0])
    del which.parameter["slide.dof_damping"]
    env.reset(which, 1, STREAMS)
    masses = env.physics.expand("body_mass")
    assert masses[1].sum() > masses[0].sum()
    np.testing.assert_allclose(env.physics.expand("body_subtreemass")[:, 0], masses.sum(1))


def test_a_joint_has_as_many_rows_as_degrees_of_freedom() -> None:
    xml = """<mujoco><worldbody>
      <body name="ball"><freejoint name="float"/><geom name="ball" size="0.1"/></body>
      <body name="arm"><joint name="hinge"/><geom size="0.1"/></body>
    </worldbody></mujoco>"""
    physics = BatchPhysics(xml, 1, 1, 1)
    assert physics.rows_of("dof_damping", "float").tolist() == [0, 1, 2, 3, 4, 5]
    assert physics.rows_of("dof_damping", "hinge").tolist() == [6]
    assert physics.rows_of("jnt_stiffness", "hinge").tolist() == [1]
    assert physics.rows_of("geom_friction", "ball").tolist() == [0]
    with pytest.raises(InputError, match="element of geom_friction: no ''; known: ball"):
        physics.rows_of("geom_friction", "")


def test_tasks_are_drawn_and_described() -> None:
    distribution, env = door().build("cpu", 1)
    drawn = distribution.sample(500, STREAMS)
    for name, low, high in (("payload.body_mass", 0.5, 3.0), ("place", -1.0, 1.0)):
        leaf = drawn.parameter[name]
        assert low <= leaf.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < leaf.max() <= high
    shifted = distribution.held_out(100, "shifted").parameter
    assert shifted["slide.dof_damping"].min() >= 2.0
    assert shifted["payload.body_mass"].min() < 1.0
    about = distribution.parameters["slide.dof_damping"]
    assert (about.low, about.high) == (0.0, 3.0)
    assert about.text == "value of dof_damping of slide"
    assert distribution.parameters["place"].unit == "m"
    assert env.spec.observation_size == 4
    assert door().shows == "dynamics"
    assert door(vary=()).shows == "rewards"


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
