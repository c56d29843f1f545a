"""Meta-learners, one paper a file."""
