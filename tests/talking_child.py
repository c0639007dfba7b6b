"""A child that says it is ready, and then does as it is told."""

import os
import signal
import sys
import time

[behaviour] = sys.argv[1:]
if behaviour == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if behaviour in ("polite", "deaf"):
    try:
        print("ready")
        time.sleep(60)
    except KeyboardInterrupt:
        print("saves")
        sys.exit(7)
print("ready")
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if behaviour == "fails":
    print(*range(40), sep="\n")
    sys.exit(3)
