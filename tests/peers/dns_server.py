"""A DNS server for one test, on 127.0.0.1, over UDP and TCP, by dnspython. It answers every question for SRV records with what it
was last told, a JSON object a line on its stdin: {"srv": [[target, port], …], "ttl": seconds, "rcode": "NOERROR", "cut": false}; `cut`: over UDP
only that the answer does not fit. Prints "ready", then "ok" for each line. Ends with its stdin."""

import json
import os
import socket
import struct
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

said = {"srv": [], "ttl": 1, "rcode": "NXDOMAIN", "cut": False}


def answer(wire, may_be_cut):
    query = dns.message.from_wire(wire)
    reply = dns.message.make_response(query)
    reply.set_rcode(dns.rcode.from_text(said["rcode"]))
    if may_be_cut and said.get("cut"):
        reply.flags |= dns.flags.TC
    elif said["srv"]:
        records = [f"0 0 {port} {target}." for target, port in said["srv"]]
        reply.answer.append(dns.rrset.from_text_list(query.question[0].name, said["ttl"], "IN", "SRV", records))
    return reply.to_wire()


def serve_udp(server):
    while True:
        wire, peer = server.recvfrom(65535)
        server.sendto(answer(wire, True), peer)


def serve_tcp(server):
    while True:
        peer, _ = server.accept()
        with peer:
            size = struct.unpack("!H", peer.recv(2, socket.MSG_WAITALL))[0]
            wire = answer(peer.recv(size, socket.MSG_WAITALL), False)
            peer.sendall(struct.pack("!H", len(wire)) + wire)


address = ("127.0.0.1", int(sys.argv[1]))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(address)
tcp = socket.create_server(address)
for serve, server in ((serve_udp, udp), (serve_tcp, tcp)):
    threading.Thread(target=serve, args=(server,), daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    said = {"ttl": 1, "rcode": "NOERROR", **json.loads(line)}
    print("ok", flush=True)
os._exit(0)
