"""Which rows of MuJoCo's model fields belong to a named body, joint, geom, ..."""

import mujoco
import mujoco.batch
import numpy as np
from numpy.typing import NDArray

from metarl.checks import InputError, unknown

# Whose name stands for the rows of a model field, by the field's first word; and their number.
_OWNERS = {
    "body": (mujoco.mjtObj.mjOBJ_BODY, "nbody"),
    "jnt": (mujoco.mjtObj.mjOBJ_JOINT, "njnt"),
    "dof": (mujoco.mjtObj.mjOBJ_JOINT, "njnt"),
    "geom": (mujoco.mjtObj.mjOBJ_GEOM, "ngeom"),
    "site": (mujoco.mjtObj.mjOBJ_SITE, "nsite"),
    "actuator": (mujoco.mjtObj.mjOBJ_ACTUATOR, "nu"),
    "tendon": (mujoco.mjtObj.mjOBJ_TENDON, "ntendon"),
    "eq": (mujoco.mjtObj.mjOBJ_EQUALITY, "neq"),
}


def rows_of(model: mujoco.MjModel, field: str, element: str) -> NDArray[np.int64]:
    """Return which rows of a model field are those of a body, joint, ... of that name.

    Raises:
        ValueError: there is no such field of numbers, or no such element; the message holds the
            nearest name.
    """
    if field not in mujoco.batch.MODEL_FIELDS or not _is_input(model, field):
        fields = (name for name in mujoco.batch.MODEL_FIELDS if _is_input(model, name))
        raise InputError([unknown("model field", field, sorted(fields))])
    word = field.partition("_")[0]
    owner, number = _OWNERS[word]
    names = [mujoco.mj_id2name(model, owner, n) or "" for n in range(getattr(model, number))]
    if not element or element not in names:
        raise InputError([unknown(f"element of {field}", element, filter(None, names))])
    place = names.index(element)
    # A joint has as many degrees of freedom as its type says.
    owners = model.dof_jntid if word == "dof" else np.arange(len(names))
    return np.flatnonzero(owners == place)


def _is_input(model: mujoco.MjModel, field: str) -> bool:
    """Whether a model field holds numbers for named elements that MuJoCo does not derive."""
    derived = field.endswith("0") or field == "body_subtreemass"
    if derived or field.partition("_")[0] not in _OWNERS:
        return False
    return np.issubdtype(getattr(model, field).dtype, np.floating)
