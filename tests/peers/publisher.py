"""A real fedmsg publisher. Reads one JSON object a line on stdin, {"topic", "msg"}; publishes it with fedmsg.publish (module
name "peer"); answers with the exact text that went out. Ends with its stdin. Configured by ./fedmsg.d, as any fedmsg program."""

import json
import sys

import fedmsg
import fedmsg.encoding

fedmsg.init(name=sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    # The hook sees what is sent, after it was signed.
    fedmsg.publish(topic=asked["topic"], modname="peer", msg=asked["msg"],
                   pre_fire_hook=lambda message: print(fedmsg.encoding.dumps(message), flush=True))
