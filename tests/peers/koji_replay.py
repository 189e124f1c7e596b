"""Sends what was recorded at a real hub 1.35.3 to another one, and compares the answers.

    koji_replay.py RECORDED URL PKI     RECORDED has NNN.req and NNN.res; PKI has ca.crt and kojiadmin.pem

Prints `same NNN` or `other NNN`, then what differs. Numbers of users, tags, packages and events, times and session keys are each
hub's own; a session of the recording stands for the one that the same login opened here. Between some requests a person did something
at the recorded hub: `do ...` is printed, and a line of stdin says that it is done here too.
"""

import http.client
import re
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit
from xmlrpc.client import Fault, loads

# What a person did before these (INDEX.txt).
BEFORE = {72: "expire", 75: "expire", 76: "close", 77: "disable kojiadmin"}
OWN = """id owner_id package_id tag_id create_event revoke_event create_ts revoke_ts creator_id revoker_id session-id session-key
owner""".split()
NUMBERED = {"createTag", "createUser", "newGroup"}


def message(path):
    head, _, body = path.read_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
    first, *lines = head.decode().split("\n")
    return first.split(), dict(line.split(": ", 1) for line in lines), body


def meaning(value, key=None):
    """An answer without what is each hub's own. Histories have no order."""
    if key in OWN and value is not None:
        return type(value).__name__
    if key == "traceback":
        return bool(value)
    if isinstance(value, dict):
        return {name: meaning(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [meaning(one) for one in value]
    return re.sub(r"session \"?\d+\"?", "session N", value) if isinstance(value, str) else value


def decoded(status, body, method):
    try:
        value = loads(body)[0][0]
    except Fault as fault:
        return status, "fault", fault.faultCode, meaning(fault.faultString)
    except Exception:  # noqa: BLE001  (not XML: compared as it is)
        return status, body.decode()
    if method == "queryHistory":
        tables = ("tag_packages", "tag_package_owners")
        value = {name: sorted(str(sorted(meaning(row).items())) for row in value[name]) for name in tables}
    return status, type(value).__name__ if method in NUMBERED else meaning(value)


class Other:
    """The hub that is compared."""

    def __init__(self, url, pki):
        self.url, self.pki, self.lines = urlsplit(url), pki, {}
        self.sessions = {}

    def connection(self, login):
        """The certificate is for logging in; as Apache does, nobody asks for it elsewhere."""
        if login not in self.lines:
            context = ssl.create_default_context(cafile=self.pki / "ca.crt")
            if login:
                context.load_cert_chain(self.pki / "kojiadmin.pem")
            self.lines[login] = http.client.HTTPSConnection(self.url.hostname, self.url.port, context=context)
        return self.lines[login]

    def ask(self, words, headers, body):
        keep = {name: value for name, value in headers.items() if name.startswith("Koji-") or name == "Content-Type"}
        number, path = keep.get("Koji-Session-Id"), words[1]
        if number in self.sessions:
            keep["Koji-Session-Id"], keep["Koji-Session-Key"] = map(str, self.sessions[number])
        for old in re.findall(r"session-id=(\d+)&session-key=[^&]+", path):
            path = re.sub(r"session-id=\d+&session-key=[^&]+", "session-id=%s&session-key=%s" % self.sessions[old], path)
        line = self.connection("ssllogin" in path)
        line.request(words[0], path, body, keep)
        answer = line.getresponse()
        return answer.status, answer.read()


def by_hand(what):
    print("do", what, flush=True)
    sys.stdin.readline()


def replay(number, recorded, other):
    """(recorded, here) of one exchange."""
    (_, status, *_), _, expected = message(recorded / ("%03d.res" % number))
    request = recorded / ("%03d.req" % number)
    if request.exists():
        words, headers, body = message(request)
    else:  # 066, whose request was too long to keep
        words, headers, body = ["POST", "/kojihub"], {"Content-Type": "text/xml"}, b"x" * 5_000_000
    try:
        method = loads(body)[1]
    except Exception:  # noqa: BLE001  (one of them is cut short)
        method = None
    got = other.ask(words, headers, body)
    theirs, ours = decoded(int(status), expected, method), decoded(*got, method)
    if method in ("sslLogin", "subsession") and isinstance(ours[1], dict):
        sessions = [loads(text)[0][0] for text in (expected, got[1])]
        other.sessions[str(sessions[0]["session-id"])] = (sessions[1]["session-id"], sessions[1]["session-key"])
    return theirs, ours


def main():
    recorded, url, pki = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    other = Other(url, pki)
    for path in sorted(recorded.glob("*.res")):
        number = int(path.stem)
        if number in BEFORE:
            by_hand(BEFORE[number])
        theirs, ours = replay(number, recorded, other)
        print("%s %03d" % ("same" if theirs == ours else "other", number), flush=True)
        if theirs != ours:
            print("  recorded %.600s\n  here     %.600s" % (theirs, ours), flush=True)


if __name__ == "__main__":
    main()
