"""The environments under their names in Gymnasium's registry.

``import metarl.envs`` registers them all; so does the name of the module before an id, as in
``gymnasium.make("metarl.envs:metarl/HalfCheetahVel-v0")``.
"""

from collections.abc import Iterable

import gymnasium


def register(names: Iterable[str]) -> None:
    """Make names known to ``gymnasium.make`` and ``gymnasium.make_vec``.

    The time limit is the environment's own: no wrapper is asked for one.
    """
    for name in names:
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="metarl.envs.gymnasium_single:TaskEnv",
                vector_entry_point="metarl.envs.gymnasium_vector:TaskVectorEnv",
                kwargs={"name": name},
            )
