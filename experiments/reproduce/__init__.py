"""``metarl reproduce``: published experiments, run again and held to what was published."""
