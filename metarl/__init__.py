"""Meta-reinforcement learning in PyTorch: the core, which knows no environment and no algorithm."""
