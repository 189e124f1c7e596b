"""The real fedmsg-hub with one consumer that counts COUNT messages, says when it had the last, and ends.

    hub.py '{"endpoint": "tcp://…", "count": N, "validate": true, "ca": FILE, "crl": FILE, "exec": [PROGRAM, …]}'

With "exec" it starts that program for each message, its payload as `with` on stdin, as a reactor handler gets it.
The hub is started by moksha's own `main`, as the `fedmsg-hub` command does (fedmsg/commands/hub.py).
"""
import copy
import json
import os
import subprocess
import sys
import time
import warnings

warnings.simplefilter("ignore")

import fedmsg.config  # noqa: E402
import fedmsg.consumers  # noqa: E402

given = json.loads(sys.argv[1])


class Counter(fedmsg.consumers.FedmsgConsumer):
    topic = "org.fedoraproject.prod.*"
    config_key = "bench.enabled"
    seen = 0
    started = 0.0  # processor seconds used before the hub ran

    def consume(self, msg):
        if "exec" in given:
            with_ = {"n": msg["body"]["msg"]["n"]}
            subprocess.run(given["exec"], input=json.dumps({"with": with_}).encode(), stdout=subprocess.DEVNULL)
        Counter.seen += 1
        if Counter.seen == given["count"]:
            last = time.time()
            print(json.dumps({"last": last, "cpu_seconds": sum(os.times()[:2]) - Counter.started}), flush=True)
            os._exit(0)


config = copy.deepcopy(fedmsg.config.defaults)
config.update({
    "bench.enabled": True,
    "name": "bench", "environment": "prod", "zmq_enabled": True, "mute": True,
    "endpoints": {"bench.host": [given["endpoint"]]},
    "zmq_subscribe_endpoints": given["endpoint"],
    "zmq_subscribe_method": "connect",
    "validate_signatures": given["validate"],
    "crypto_backend": "x509", "crypto_validate_backends": ["x509"],
    "ca_cert_location": given.get("ca"), "crl_location": given.get("crl"),
    "routing_policy": {}, "routing_nitpicky": False,
})

if __name__ == "__main__":
    from moksha.hub import main
    from moksha.hub.reactor import reactor

    def running():
        Counter.started = sum(os.times()[:2])

    reactor.callWhenRunning(running)
    main(options=config, consumers=[Counter], producers=[], framework=False)
