"""``metarl report``: finished runs as one HTML page that needs nothing else."""
