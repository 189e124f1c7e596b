"""A stand-in for a Koji hub: a real one is in no registry, and needs PostgreSQL, Apache and an afternoon.

    koji_hub.py PORT DIR     TLS on https://localhost:PORT/kojihub; DIR/pki has ca.crt and server.pem (key, then certificate)

It speaks what a real hub 1.35.3 said, answer by answer; koji_tables.py has what a hub knows and does, this file the network and the
troubles that tests ask for. Who logs in proves it for real: with a client certificate (the CN is the user), or with Kerberos
(Negotiate) where KRB5_KTNAME names the keytab of HTTP/localhost.

What is committed is in DIR/committed (JSON Lines), each HTTP call in DIR/calls: both outlive a kill, as a hub's database does.

Tests say what they want on stdin, one JSON object a line, and get one a line on stdout; with the end of stdin the hub ends:

    {"do": "seed", "users": {NAME: [PERMISSION]}, "tags": [[NAME, PARENT|null]], "packages": {TAG: [[NAME, OWNER, BLOCKED, ARCHES]]}}
    {"do": "entries"}: the rows of each tag, without what is inherited      {"do": "pace", "on": BOOLEAN}: as slow as a real hub
    {"do": "disable", "user": NAME}      {"do": "revoke", "user": NAME}: all permissions
    {"do": "expire"} or {"do": "close"}: every session      {"do": "old header", "on": BOOLEAN}: see below
    {"do": "trouble", "kind": KIND, "of": "any"|"login"|"read"|"write"|METHOD, "times": N, ...}   {"do": "well"}: no more trouble
    {"do": "release"}: calls that are held go on      {"do": "held"}: how many are

KIND: `fault` (code, text), `elements` (code, text, first: so many elements of a multiCall fail), `answer` (status, body: instead of
doing anything), `drop` (the line is cut before anything is done), `lose` (it is done, and the line is cut), `cut` (it is done, and the
line is cut after `bytes` of the answer), `hold` (waits for `release`, in a multiCall after `after` elements: kill it there).

The hub that was recorded read the number of a call in the header Koji-Session-Callnum, which clients send. The hub of the release
1.35.3 looks for Koji-Callnum instead (kojihub/auth.py at its tag; "fix callnum lookup on hub" came after it), so it knows no
RetryError for such clients: `old header` is that one.
"""

import base64
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape
from xmlrpc.client import Fault, Marshaller, loads

from koji_tables import AUTH, BY_CERTIFICATE, BY_KERBEROS, DISABLED, Hub, Refused, Rows, Store

VERSION = "1.35.3"
REQUEST_BYTES_MAX = 4 * 1024 * 1024
DRAIN_SECONDS_MAX = 2
# What a real hub took, in seconds (facts/targets.md).
PACE_LOGIN, PACE_CALL, PACE_ELEMENT, PACE_ROW = 0.061, 0.018, 0.008, 0.00018

MEMBER = "<member>\n<name>%s</name>\n<value>%s</value>\n</member>\n"
ROW = "<value><struct>\n%s</struct></value>\n"


def typed(value):
    if value is None:
        return "<nil/>"
    if isinstance(value, bool):
        return "<boolean>%d</boolean>" % value
    return "<int>%d</int>" % value if isinstance(value, int) else "<string>%s</string>" % escape(value)


class Writer(Marshaller):
    """Long package lists in one go: the marshaller of the standard library takes ten times as long."""

    def dump_rows(self, rows, write):
        row = lambda pairs: "".join(MEMBER % (name, typed(value)) for name, value in pairs)  # noqa: E731
        write("<value><array><data>\n")
        write("".join(ROW % row(one.items()) for one in rows).replace("<nil/></value>\n", "<nil/></value>"))
        write("</data></array></value>\n")

    dispatch = {**Marshaller.dispatch, Rows: dump_rows}


def answer_text(result):
    return "<?xml version='1.0'?>\n<methodResponse>\n%s</methodResponse>\n" % Writer("utf-8", True).dumps((result,))


def fault_text(fault):
    body = Writer("utf-8", True).dumps(Fault(fault.code, str(fault)))
    return "<?xml version='1.0'?>\n<methodResponse>\n%s</methodResponse>\n" % body


class Troubles:
    """What shall go wrong. Each is used up by the calls it meets."""

    def __init__(self):
        self.condition, self.waiting, self.held, self.released = threading.Condition(), [], 0, 0

    def take(self, *kinds, of):
        with self.condition:
            for one in self.waiting:
                if one["kind"] in kinds and one.get("of", "any") in of and one["times"] > 0:
                    one["times"] -= 1
                    return one
        return None

    def hold(self):
        with self.condition:
            self.held, before = self.held + 1, self.released
            self.condition.wait_for(lambda: self.released > before)
            self.held -= 1

    def release(self):
        with self.condition:
            self.released += 1
            self.condition.notify_all()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port, dir):
        self.troubles, self.pace, self.old_header, self.now = Troubles(), False, False, []
        # One call at a time is in the tables; one line at a time goes into the log.
        self.tables, self.lines = threading.Lock(), threading.Lock()
        store = Store()
        committed = dir / "committed"
        store.keep = committed.open("a+")
        store.keep.seek(0)
        good = 0
        for line in store.keep.read().splitlines(True):
            if line.endswith("\n"):
                store.load(json.loads(line))
                good += len(line.encode())
        # Killed while it wrote the last one: nobody was told.
        store.keep.truncate(good)
        self.hub, self.log = Hub(store, self.element), (dir / "calls").open("a")
        super().__init__(("127.0.0.1", port), Call)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(dir / "pki/server.pem")
        context.load_verify_locations(dir / "pki/ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        # The handshake is done by the thread of its connection: nobody holds up the others.
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def element(self, number):
        """Called before each element of a multiCall; what it returns is that element's fault."""
        if self.pace:
            time.sleep(PACE_ELEMENT)
        for trouble in self.now:
            if trouble["kind"] == "hold" and number == trouble.get("after", 0):
                self.troubles.hold()
            if trouble["kind"] == "elements" and number < trouble["first"]:
                return Refused(trouble["text"], trouble["code"])
        return None

    def finish_request(self, request, client_address):
        try:
            request.do_handshake()
        except ssl.SSLError:
            # The alert says why. Closing while the client still writes would cut it off.
            with socket.socket(fileno=os.dup(request.fileno())) as line:
                line.settimeout(DRAIN_SECONDS_MAX)
                line.shutdown(socket.SHUT_WR)
                while line.recv(4096):
                    pass
            return
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handle_error(request, client_address)


def kind_of(method, params, session):
    """The words that a trouble's `of` may say about a call."""
    if method == "sslLogin":
        return {"any", "login", method}
    elements = [call.get("methodName", "") for call in params[0]] if method == "multiCall" else [method]
    writes = session and any(re.match("packageList|create|grant|newGroup|disable|enable", name) for name in elements)
    return {"any", "write" if writes else "read", method}


class Call(BaseHTTPRequestHandler):
    """A connection, and the calls on it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_args):
        pass

    def reply(self, status, body, kind="text/xml", more=(), cut=None):
        data = body.encode()
        self.send_response(status)
        headers = [("Koji-Version", VERSION), ("Content-Length", str(len(data))), ("Content-Type", kind), *more]
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data if cut is None else data[:cut])
        self.wfile.flush()
        if cut is not None:
            self.hang_up()

    def hang_up(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker

    def do_GET(self):
        text = "Method Not Allowed\nThis is an XML-RPC server. Only POST requests are accepted.\n"
        self.reply(405, text, "text/plain", [("Allow", "POST")])

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if length > REQUEST_BYTES_MAX:
            return self.reply(400, "Invalid request: Request too long\n", "text/plain")
        try:
            params, method = loads(body)
        except Exception as error:  # noqa: BLE001  (whatever a parser says)
            return self.reply(400, "Invalid request: %s\n" % error, "text/plain")
        number, key, callnum = self.session_words()
        words = kind_of(method, params, number)
        self.entry = {"user": None, "method": method, "params": params, "callnum": callnum, "session": number}
        self.entry["client"], self.entry["bytes"] = self.client_address[1], length
        try:
            return self.work(words, method, params, number, key, callnum)
        finally:
            with self.server.lines:
                self.server.log.write(json.dumps(self.entry, default=str) + "\n")
                self.server.log.flush()

    def session_words(self):
        """In headers, or as older clients send them in the query string."""
        headers, query = self.headers, {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
        number = headers.get("Koji-Session-Id", query.get("session-id"))
        key = headers.get("Koji-Session-Key", query.get("session-key"))
        new = None if self.server.old_header else headers.get("Koji-Session-Callnum")
        callnum = new or headers.get("Koji-Callnum") or query.get("callnum")
        return number, key, callnum and int(callnum)

    def work(self, words, method, params, number, key, callnum):
        troubles = self.server.troubles
        before = troubles.take("fault", "answer", "drop", of=words)
        if before:
            self.entry["trouble"] = before["kind"]
            if before["kind"] == "drop":
                return self.hang_up()
            if before["kind"] == "answer":
                return self.reply(before["status"], before["body"])
            return self.reply(200, fault_text(Refused(before["text"], before["code"])))
        login, more = None, []
        if urlsplit(self.path).path.endswith("/ssllogin"):
            who, more = self.prove()
            if who is None and os.environ.get("KRB5_KTNAME"):
                return self.reply(401, "Unauthorized\n", "text/plain", [("WWW-Authenticate", "Negotiate")])
            login = who or (None, None)
        during = [troubles.take("hold", of=words), troubles.take("elements", of=words)]
        after = troubles.take("lose", "cut", of=words)
        text = self.transaction(method, params, login, (number, key, callnum), [one for one in during if one])
        if after:
            self.entry["trouble"] = after["kind"]
        if after and after["kind"] == "lose":
            return self.hang_up()
        return self.reply(200, text, more=more, cut=after and after["bytes"])

    def prove(self):
        """((name, how) or None, headers for the answer)"""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "negotiate" and token:
            import gssapi

            try:
                context = gssapi.SecurityContext(usage="accept")
                answer = context.step(base64.b64decode(token, validate=True))
                name = str(context.initiator_name).partition("@")[0]
            except (gssapi.exceptions.GSSError, ValueError):
                return None, []
            proof = base64.b64encode(answer or b"").decode()
            return (name, BY_KERBEROS), [("WWW-Authenticate", "Negotiate " + proof)]
        subject = (self.connection.getpeercert() or {}).get("subject", ())
        name = dict(pair for group in subject for pair in group).get("commonName")
        return (name, BY_CERTIFICATE) if name else None, []

    def transaction(self, method, params, login, session, troubles):
        """Does the call, all of it or nothing."""
        hub, entry = self.server.hub, self.entry

        def log_in(proxyuser=None, proxyauthtype=None, renew=False, exclusive=None):
            if not login or not login[0]:
                raise Refused("could not verify client: None", AUTH)
            if proxyuser:
                raise Refused("%s is not authorized to login other users" % login[0], AUTH)
            return hub.log_in(*login, renew)

        with self.server.tables:
            hub.session, hub.wrote, self.server.now = None, False, troubles
            try:
                if session[0] is not None:
                    hub.session = hub.load_session(*session, method)
                    entry["user"] = hub.session["user"]
                if method != "multiCall":
                    fault = self.server.element(0)
                    if fault:
                        raise fault
                result = hub.dispatch(method, params, log_in)
                if hub.wrote:
                    hub.db.commit(json.dumps)
            except Refused as fault:
                entry["fault"] = "%d: %.200s" % (fault.code, fault)
                return fault_text(fault)
            finally:
                hub.db.rollback()
        if method == "sslLogin":
            entry["user"] = login[0]
        if method == "multiCall":
            entry["faults"] = [isinstance(one, dict) for one in result]
        if self.server.pace:
            rows = len(result) if isinstance(result, Rows) else 0
            time.sleep((PACE_LOGIN if method == "sslLogin" else PACE_CALL) + rows * PACE_ROW)
        return answer_text(result)


def seed(hub, wish):
    """What is there from the beginning: older than the history."""
    put = hub.db.put
    for name, perms in wish.get("users", {}).items():
        user = hub.user(name, False) or hub.add_user(name)
        put("user", name, {**user, "perms": sorted({*user["perms"], *perms})})
    for name, parent in wish.get("tags", []):
        hub.add("tag", name, parent=parent)
    for tag, rows in wish.get("packages", {}).items():
        for name, owner, blocked, arches in rows:
            if not hub.package(name):
                hub.add("package", name)
            if not hub.user(owner, False):
                hub.add_user(owner)
            put("list/" + tag, name, [blocked, arches])
            put("owner/" + tag, name, owner)


def obey(server, wish):
    """Does what a line of stdin says; returns the answer."""
    troubles, hub, do = server.troubles, server.hub, wish["do"]
    if do == "trouble":
        with troubles.condition:
            troubles.waiting.append({"times": 1, **wish})
    elif do == "well":
        with troubles.condition:
            troubles.waiting.clear()
    elif do == "release":
        troubles.release()
    elif do == "held":
        return {"held": troubles.held}
    elif do == "pace":
        server.pace = wish["on"]
    elif do == "old header":
        server.old_header = wish["on"]
    else:
        with server.tables:
            if do == "entries":
                return {tag: [hub.row(tag, name) for name in hub.db.table("list/" + tag)] for tag in hub.db.table("tag")}
            if do == "seed":
                seed(hub, wish)
            elif do == "disable":
                hub.db.put("user", wish["user"], {**hub.user(wish["user"]), "status": DISABLED})
            elif do == "revoke":
                hub.db.put("user", wish["user"], {**hub.user(wish["user"]), "perms": []})
            elif do in ("expire", "close"):
                for key, row in hub.db.table("session").items():
                    hub.db.put("session", key, {**row, "expired": True, "closed": do == "close"})
            else:
                raise ValueError("no such wish: %s" % do)
            hub.db.commit(json.dumps)
    return {}


def main():
    server = Server(int(sys.argv[1]), Path(sys.argv[2]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(obey(server, json.loads(line))), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
