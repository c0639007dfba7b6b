"""A child that says it is ready, and then does as it is told."""

import os
import signal
import sys
import time

[behaviour] = sys.argv[1:]
if behaviour == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready")
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour in ("polite", "deaf"):
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("saves")
        sys.exit(7)
if behaviour == "fails":
    print(*range(40), sep="\n")
    sys.exit(3)
