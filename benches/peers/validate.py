"""fedmsg's own validate() over a file of messages, one thread: validate.py FILE '{"ca": FILE, "crl": FILE}'"""
import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import fedmsg.crypto  # noqa: E402

given = json.loads(sys.argv[2])
config = {
    "crypto_backend": "x509", "crypto_validate_backends": ["x509"], "routing_policy": {}, "routing_nitpicky": False,
    "ca_cert_location": given["ca"], "crl_location": given["crl"],
}
with open(sys.argv[1]) as lines:
    messages = [json.loads(line) for line in lines]
assert fedmsg.crypto.validate(dict(messages[0]), **config), "fedmsg refuses the message"
started = time.process_time()
for message in messages:
    assert fedmsg.crypto.validate(message, **config)
print(json.dumps({"per_second": len(messages) / (time.process_time() - started)}))
