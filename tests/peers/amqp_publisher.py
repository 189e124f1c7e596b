"""A real fedora-messaging publisher. Reads one JSON object a line on stdin, {"topic", "body"} and if wanted "severity",
"schema" (the name of an entry point) and "timeout_s"; publishes it with api.publish, which waits for the broker's confirm;
answers with {"id"}, or with {"error", "why"} if it could not. Ends with its stdin. Configured by $FEDORA_MESSAGING_CONF."""

import json
import os
import sys

from fedora_messaging import api, exceptions, message

# fedora-messaging logs on stdout: that goes to stderr, and stdout is for the answers alone.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

for line in sys.stdin:
    asked = json.loads(line)
    schema = message.get_class(asked["schema"]) if "schema" in asked else api.Message
    try:
        told = schema(topic=asked["topic"], body=asked["body"], severity=asked.get("severity"))
        api.publish(told, timeout=asked.get("timeout_s", 30))
        answer = {"id": told.id}
    except exceptions.BaseException as error:
        answer = {"error": type(error).__name__, "why": str(error)}
    print(json.dumps(answer), file=answers, flush=True)
os._exit(0)
