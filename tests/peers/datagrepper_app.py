"""The real datagrepper over the real datanommer.models, in a database of the test's own. Only TimescaleDB is missing, which Debian
does not have: its one function that the models call does nothing here, so `messages` is a plain table. Reads one envelope a line on
stdin, stores it as datanommer stored those of fedmsg, and answers "kept". Ends with its stdin.

Arguments: the port to answer on, the database's socket directory and port."""

import datetime
import json
import os
import sys
import threading

import sqlalchemy

port, directory, database_port = sys.argv[1:]
url = f"postgresql://postgres@/postgres?host={directory}&port={database_port}"
with open("datagrepper.cfg", "w") as config:
    config.write(f"DATANOMMER_SQLALCHEMY_URL = {url!r}\n")
os.environ["DATAGREPPER_CONFIG"] = os.path.abspath("datagrepper.cfg")

import datanommer.models as dm  # noqa: E402

engine = sqlalchemy.create_engine(url, future=True)
with engine.begin() as connection:
    connection.execute(sqlalchemy.text(
        "CREATE FUNCTION create_hypertable(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1'"))
dm.DeclarativeBase.metadata.create_all(engine)

from datagrepper.app import app  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

server = make_server("127.0.0.1", int(port), app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    kept = json.loads(line)
    dm.Message.create(
        i=kept["i"], msg_id=kept["msg_id"], topic=kept["topic"],
        timestamp=datetime.datetime.fromtimestamp(kept["timestamp"], datetime.timezone.utc).replace(tzinfo=None),
        msg=kept["msg"], headers=kept.get("headers", {}), agent_name=kept.get("username"), users=[], packages=[],
        certificate=kept.get("certificate"), signature=kept.get("signature"), crypto=kept.get("crypto"))
    dm.session.commit()
    print("kept", flush=True)
