"""Eight CPU devices for every test; set before JAX is imported, and inherited by child processes."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
