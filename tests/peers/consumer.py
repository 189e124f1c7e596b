"""A real fedmsg consumer in a real hub: validates signatures (as the configuration says) and prints each message that it
accepted, one JSON object a line. Ends with its stdin. Configured by ./fedmsg.d, as any fedmsg program."""

import json
import os
import sys
import threading

import fedmsg.commands.hub
import fedmsg.consumers
import moksha.hub

# fedmsg logs on stdout: that goes to stderr, and stdout is for the messages alone.
accepted = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


class Consumer(fedmsg.consumers.FedmsgConsumer):
    topic = "*"
    config_key = "reactor.test.consumer"

    def consume(self, message):
        print(json.dumps(message), file=accepted, flush=True)


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
# What fedmsg-hub itself does, with this one consumer.
main = moksha.hub.main
moksha.hub.main = lambda **words: main(**{**words, "consumers": [Consumer]})
sys.argv = ["fedmsg-hub"]
fedmsg.commands.hub.hub()
