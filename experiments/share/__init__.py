"""``metarl export``, ``push`` and ``pull``: runs to give to others, as files that hold no code."""
