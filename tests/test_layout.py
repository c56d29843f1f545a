"""The house rules that a parser can check: who imports whom, sizes, and what must never appear."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import metarl.envs

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"metarl": "metarl", "envs": "metarl.envs", "agents": "metarl.agents"}
FOLDERS["experiments"] = "metarl.experiments"

# Imports point down: a module of the core may import modules of the rows above its own.
CORE = (
    ("types", "checks", "seeding", "files", "locks"),
    ("checkpoint", "plain_data", "bootstrap"),
    (
        "protocols",
        "trees",
        "returns",
        "distributions",
        "statistics",
        "logger",
        "console",
        "runs",
        "parallel",
        "cuda_graphs",
        "processes",
        "bundle",
        "muon",
    ),
    (
        "background",
        "linearisation",
        "networks",
        "objectives",
        "baselines",
        "sampler",
        "optimizers",
        "trials",
        "context",
    ),
    ("mlp_derivatives", "trust_region", "ascent", "annealing", "trial_targets"),
    ("policies", "ppo"),
    ("adaptation", "recurrent"),
    ("inner_loss", "outer_objectives", "acting"),
    ("mlp_adaptation", "kept_policy"),
    ("implicit_gradient", "policy_export"),
    ("meta_gradient",),
    ("gradient_agent", "inner_learners"),
    ("trainer", "evaluation", "adapted_policy"),
)
CONTRACTS = {"metarl.types", "metarl.checks", "metarl.seeding", "metarl.protocols"}
FOR_WORKERS = "metarl.bundle"  # of metarl.envs, but imported where torch is not
NOT_FOR_AGENTS = {f"metarl.{name}" for name in ("sampler", "trainer", "evaluation", "runs")}
FORBIDDEN = {"eval", "exec", "print", "torch.load", "yaml.load", "torch.manual_seed", "os.system"}
FORBIDDEN |= {f"np.random.{name}" for name in ("seed", "rand", "randn", "normal", "uniform")}
FORBIDDEN_IMPORTS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "random"}
# Packages, and the doors through which they come in.
_FACES = ("registration", "gymnasium_single", "gymnasium_vector", "sb3")
_DOORS = ("from_gymnasium", "one_copy", "tells_reward", "gymnasium_spaces", "gymnasium_workers")
ONLY_IN = {
    "huggingface_hub": {"metarl.experiments.share.hub"},
    "submitit": {"metarl.experiments.sweep.slurm"},
    "mujoco": {f"metarl.envs.{name}" for name in ("physics", "model_fields", "mujoco_renderer")},
    "gymnasium": {f"metarl.envs.{name}" for name in (*_FACES, *_DOORS)}
    | {"metarl.bundle", "metarl.experiments.bench.peers"},
    "imageio_ffmpeg": {"metarl.experiments.video.files"},
    "PIL": {f"metarl.experiments.video.{name}" for name in ("footage", "files")},
    "wandb": {"metarl.experiments.tracking"},
    "mlflow": {"metarl.experiments.tracking"},
    "optuna": {"metarl.experiments.sweep.search_study"},
    "sqlalchemy": {"metarl.experiments.sweep.search_study"},
    "ray": {"metarl.experiments.sweep.ray", "metarl.experiments.sweep.ray_tune"},
    "stable_baselines3": {"metarl.envs.sb3"}
    | {f"metarl.experiments.{name}" for name in ("bench.peers", "reptile_sb3", "scratch_ppo")},
    "jinja2": {"metarl.experiments.report.page"},
    "markupsafe": {"metarl.experiments.report.page"},
    "plotly": {"metarl.experiments.report.page"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join((package, *(part for part in inner if part != "__init__"))), path


MODULES = dict(modules())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def allowed(importer: str, imported: str) -> bool:
    if importer.startswith("metarl.experiments"):
        return True
    if importer.startswith("metarl.envs"):
        return imported in CONTRACTS | {FOR_WORKERS} or imported.startswith("metarl.envs")
    core = {f"metarl.{name}": row for row, names in enumerate(CORE) for name in names}
    if importer.startswith("metarl.agents"):
        own = imported.startswith("metarl.agents")
        return own or (imported in core and imported not in NOT_FOR_AGENTS)
    if importer == "metarl":
        return False
    return imported in core and core[imported] < core[importer]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    for imported in imports(MODULES[name]):
        if imported.split(".")[0] == "metarl":
            assert allowed(name, imported), f"{name} may not import {imported}"
        assert imported not in FORBIDDEN_IMPORTS, f"{name} may not import {imported}"
        package = imported.split(".")[0]
        assert name in ONLY_IN.get(package, {name}), f"{name} may not import {package}"


@pytest.mark.parametrize("name", MODULES)
def test_nothing_dangerous_or_global(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        used = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        assert used not in FORBIDDEN, f"{name} may not use {used}"


@pytest.mark.parametrize("name", MODULES)
def test_sizes(name: str) -> None:
    text = MODULES[name].read_text()
    assert text.count("\n") <= 300, f"{name} is too long"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 45, f"{name}.{node.name} has {lines} lines"


def test_imported_package_is_this_checkout() -> None:
    assert Path(str(metarl.envs.__file__)).resolve() == ROOT / "envs" / "__init__.py"
