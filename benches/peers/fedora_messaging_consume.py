"""The real `fedora-messaging consume` with a callback that counts COUNT messages, says when it had the first and the last, and ends.
Configured by $FEDORA_MESSAGING_CONF.

    fedora_messaging_consume.py '{"count": N, "exec": [PROGRAM, …]}'

With "exec" it starts that program for each message, its body as `with` on stdin, as a reactor handler gets it.
"""
import json
import os
import subprocess
import sys
import time

from fedora_messaging.cli import cli

given = json.loads(sys.argv[1])
# fedora-messaging logs on stdout: that goes to stderr, and stdout is for the one answer.
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
seen = 0
first = cpu = 0.0


def callback(message):
    global seen, first, cpu
    if seen == 0:
        first, cpu = time.time(), sum(os.times()[:2])
    if "exec" in given:
        with_ = {"n": message.body["n"]}
        subprocess.run(given["exec"], input=json.dumps({"with": with_}).encode(), stdout=subprocess.DEVNULL)
    seen += 1
    if seen == given["count"]:
        told = {"first": first, "last": time.time(), "cpu_seconds": sum(os.times()[:2]) - cpu}
        print(json.dumps(told), file=answer, flush=True)
        os._exit(0)


cli(["consume", "--callback", "__main__:callback"])
