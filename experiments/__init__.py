"""The command line, presets, benchmarks and figures."""
