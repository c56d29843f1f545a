"""The templates for a user's own tasks train, and the document that explains them holds."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from metarl import agents
from metarl.agents.maml import MamlTrpoConfig
from metarl.experiments.check.command import load
from metarl.policies import PolicyConfig
from metarl.protocols import CanClose
from metarl.seeding import Streams
from metarl.trainer import TrainConfig, meta_train

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "docs" / "templates"
DOORS = ("cart_pole.py", "gymnasium_env.py", "tensor_env.py")
OWN_TASKS = (ROOT / "docs" / "own_tasks.md").read_text()


@pytest.fixture(autouse=True)
def path() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before
    for path in TEMPLATES.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("template", DOORS)
def test_maml_trains_on_a_template(template: str) -> None:
    distribution, env = load(f"{TEMPLATES / template}:ENV").build("cpu", 2)
    config = MamlTrpoConfig(policy=PolicyConfig(hidden_sizes=(8, 8)))
    agent = agents.build("maml-trpo", env.spec, config, seed=1)
    before = {name: leaf.clone() for name, leaf in agent.state_dict().items()}
    train = TrainConfig(iterations=2, tasks_per_update=4, episodes=3)
    steps = list(meta_train(agent, env, distribution, train, Streams(1)))
    if isinstance(env, CanClose):
        env.close()
    assert [step.number for step in steps] == [1, 2]
    assert all(step.metrics["rollout/faulty_episodes"] == 0 for step in steps)
    assert steps[0].env_steps > 2 * 4 * 3
    after = agent.state_dict()
    assert any(not torch.equal(before[name], leaf) for name, leaf in after.items())
    assert all(torch.isfinite(leaf).all() for leaf in after.values())


def test_the_document_names_what_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", OWN_TASKS):
        assert (ROOT / "docs" / link).exists(), link
    for template in DOORS:
        assert f"templates/{template}" in OWN_TASKS
    # What it quotes of a template is what stands there.
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", OWN_TASKS, flags=re.DOTALL):
        assert code.strip() in (TEMPLATES / name).read_text(), name
