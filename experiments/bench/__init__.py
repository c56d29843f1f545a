"""``metarl bench``: what is fast, what is slow, and where time goes."""
