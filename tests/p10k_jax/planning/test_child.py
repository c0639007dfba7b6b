import sys

import pytest

from p10k_jax.planning.child import CompilerError, compile_in_child
from p10k_jax.planning.compiling import Request
from p10k_jax.planning.sizes import Sizes

REQUEST = Request({"batch_size": 8, "augment": {"crop_scale": (0.25, 1.0)}}, "v6e:2x2", Sizes(8, 0, 2, 0, "a test"))


def run(code, time_limit=60.0):
    return compile_in_child(REQUEST, time_limit=time_limit, command=(sys.executable, "-c", code))


def test_a_compiler_that_dies_is_a_message():
    with pytest.raises(CompilerError) as error:
        run("import os, signal; print('compiling'); os.kill(os.getpid(), signal.SIGSEGV)")
    for part in ("v6e:2x2: ", "SIGSEGV (signal 11)", "not of the config", "jax ", "v5e"):
        assert part in str(error.value)


def test_a_machine_without_memory_is_a_message():
    with pytest.raises(CompilerError, match=r"SIGKILL \(signal 9\): this machine ran out of memory"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_a_failure_tells_its_last_lines():
    with pytest.raises(CompilerError, match=r"(?s)exit code 1.*ZeroDivisionError"):
        run("1 / 0")


def test_a_child_that_says_nothing_is_a_failure():
    with pytest.raises(CompilerError, match="exit code 0"):
        run("pass")


def test_a_compiler_that_takes_too_long_is_ended():
    with pytest.raises(CompilerError, match="not compiled within 1 seconds; give a longer --time_limit"):
        run("import time; time.sleep(600)", time_limit=1.0)


def test_what_the_child_says():
    write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text({!r})"
    assert run(write.format('{"phases": []}')) == {"phases": []}
    with pytest.raises(ValueError, match="batch_size=7 does not divide"):
        run(write.format('{"refused": "batch_size=7 does not divide"}'))
    with pytest.raises(CompilerError, match=r"(?s)v6e:2x2: the compiler fails: INTERNAL.*Installed: jax"):
        run(write.format('{"failed": "INTERNAL: Mosaic"}'))


def test_the_child_is_asked_in_full_and_kept_from_the_devices():
    code = """
import ast, json, os, pathlib, sys
request = ast.literal_eval(sys.stdin.read())
names = ("JAX_PLATFORMS", "TPU_SKIP_MDS_QUERY", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES")
told = {"request": repr(request), "environment": [os.environ[name] for name in names]}
pathlib.Path(sys.argv[1]).write_text(json.dumps(told))
"""
    told = run(code)
    assert told["request"] == repr(REQUEST._asdict() | {"sizes": REQUEST.sizes._asdict()})
    assert "(0.25, 1.0)" in told["request"]
    assert told["environment"] == ["cpu", "1", "v6e-4", "localhost"]
