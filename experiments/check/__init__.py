"""``metarl check``: the rules that every task distribution and environment keeps to."""
