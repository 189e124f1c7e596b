"""The real fedmsg-relay program, which ends with its stdin. Configured by ./fedmsg.d, as any fedmsg program."""

import os
import runpy
import sys
import threading


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
program = os.path.join(os.path.dirname(sys.executable), "fedmsg-relay")
sys.argv = [program]
runpy.run_path(program, run_name="__main__")
