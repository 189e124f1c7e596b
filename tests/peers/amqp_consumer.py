"""The real `fedora-messaging consume`, with a callback that prints each message it is given as one JSON object a line. Ends
with its stdin, or as that program ends. Configured by $FEDORA_MESSAGING_CONF."""

import json
import os
import sys
import threading

from fedora_messaging.cli import cli

# fedora-messaging logs on stdout: that goes to stderr, and stdout is for the messages alone.
consumed = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def callback(message):
    headers = message._properties.headers
    told = {"id": message.id, "topic": message.topic, "body": message.body, "severity": message.severity,
            "class": type(message).__name__, "queue": message.queue, "priority": message.priority, "headers": headers}
    print(json.dumps(told), file=consumed, flush=True)


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
cli(["consume", "--callback", "__main__:callback"])
