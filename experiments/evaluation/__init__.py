"""``metarl evaluate``: runs on held-out tasks, by one of several protocols (docs/evaluation.md)."""
