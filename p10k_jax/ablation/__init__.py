"""Ablations: variants of a config, their runs in child processes, and the table of what came out."""
