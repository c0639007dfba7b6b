"""Configs: data about runs. Each file has a `get_config(arg)`."""
