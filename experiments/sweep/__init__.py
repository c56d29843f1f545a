"""Sweeps: many runs from one short file, on this machine or on others."""
