"""Task distributions and the environments they run in."""
