"""A real fedmsg publisher with fedmsg's own store of what it published, and the real fedmsg.replay that answers from it. Reads one
JSON object a line on stdin, {"topic", "msg"}; publishes it (module name "peer"); answers with the exact text that went out.
Ends with its stdin. Configured by ./fedmsg.d, as any fedmsg program."""

import json
import sys
import threading

import fedmsg
import fedmsg.config
import fedmsg.encoding
import sqlalchemy
from fedmsg.replay import ReplayContext
from fedmsg.replay.sqlstore import SqlStore

name = sys.argv[1]
store = SqlStore(sqlalchemy.create_engine("sqlite:///store.db"))
config = fedmsg.config.load_config()
config.update(name=name, persistent_store=store)
replay = ReplayContext(**config)
threading.Thread(target=replay.listen, daemon=True).start()
fedmsg.init(**config)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    fedmsg.publish(topic=asked["topic"], modname="peer", msg=asked["msg"],
                   pre_fire_hook=lambda message: print(fedmsg.encoding.dumps(message), flush=True))
