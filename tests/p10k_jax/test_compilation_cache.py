import os
import subprocess
import sys

import jax
import jax.numpy as jnp

from p10k_jax.compilation_cache import cache_folder, kept_in

_PROGRAM = """
import jax
from p10k_jax.compilation_cache import keep_compiled
jax.jit(lambda x: x + 1)(1.0)  # what was compiled before does not settle where the rest goes
keep_compiled()
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: x * 2)(1.0)
"""


def kept(**environment) -> str:
    """The folder that a process of its own keeps programs in."""
    inherited = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    child = [sys.executable, "-c", _PROGRAM]
    return subprocess.run(child, env=inherited | environment, check=True, capture_output=True, text=True).stdout.strip()


def test_programs_are_kept_in_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder()
    assert folder.parent == tmp_path / "p10k_jax" / "compiled"
    assert kept(XDG_CACHE_HOME=str(tmp_path)) == str(folder)
    assert list(folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0


def test_what_the_user_says_goes(tmp_path):
    chosen = tmp_path / "chosen"
    assert kept(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=str(chosen)) == str(chosen)
    assert kept(XDG_CACHE_HOME=str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert kept(XDG_CACHE_HOME=str(occupied)) == "None"


def test_nothing_is_taken_from_a_folder_that_others_can_write(tmp_path):
    for part in ("p10k_jax", "p10k_jax/compiled"):
        (tmp_path / part).mkdir()
        (tmp_path / part).chmod(0o777)
        assert kept(XDG_CACHE_HOME=str(tmp_path)) == "None"
        (tmp_path / part).chmod(0o755)
    assert kept(XDG_CACHE_HOME=str(tmp_path)) != "None"


def test_a_folder_for_a_while(tmp_path):
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    earlier = jax.config.jax_compilation_cache_dir
    try:
        with kept_in(tmp_path):
            jax.jit(lambda x: x * 3)(jnp.ones(3))
        assert jax.config.jax_compilation_cache_dir == earlier
        assert list(tmp_path.iterdir())
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1)
