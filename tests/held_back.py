"""A program that the system refuses something: `python -m tests.held_back WHAT MODULE ARGUMENTS...`.

`small_files`: files above 50,000 bytes, as when a disk or a quota is full. `permissions`: what root may do to files
that it has no permission for; others may not anyway.
"""

import ctypes
import os
import resource
import sys

_, what, *command = sys.argv
if what == "small_files":
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
elif what == "permissions" and os.geteuid() == 0:
    for capability in (1, 2, 3):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
        if ctypes.CDLL(None).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit("the system does not let go of capabilities")
os.execv(sys.executable, [sys.executable, "-m", *command])
