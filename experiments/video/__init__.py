"""Videos: one task met as in evaluation, before and after adaptation, filmed or played."""
