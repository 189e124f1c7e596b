"""A real fedmsg consumer that catches up: what fedmsg's own backlog (`status_directory`, `datagrepper_url`) asks for and makes of the
answers, printed one message a line. Ends with its stdin. The last message it handled stands in ./status/PROCESS/Consumer."""

import json
import os
import sys
import threading

import fedmsg.commands.hub
import fedmsg.consumers
import moksha.hub

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


process = fedmsg.consumers.current_proc().name
process = process() if callable(process) else process
os.makedirs(os.path.join("status", process))
with open(os.path.join("status", process, "Consumer"), "w") as status:
    status.write(sys.argv[1])
threading.Thread(target=end_with_stdin, daemon=True).start()
main = moksha.hub.main
moksha.hub.main = lambda **words: main(**{**words, "consumers": [Consumer]})
sys.argv = ["fedmsg-hub"]
fedmsg.commands.hub.hub()
