"""A bare AMQP client (pika): what is on the wire, and what no honest publisher would put there. Ends with its stdin. Configured by
$FEDORA_MESSAGING_CONF, of which it takes the broker's address and the TLS files. Its first line is "ready", or what refused it.

    amqp_raw.py listen KEY   prints each message to amq.topic that the binding KEY fits as one JSON object a line: the delivery, all properties that are there,
                         headers as {NAME: [TYPE, VALUE]} with the type's letter of AMQP 0-9-1, and the body as text
    amqp_raw.py publish  reads one JSON object a line, {"routing_key", "body" (text) or "base64", "properties"}; answers "ok",
                         or the name of what went wrong"""

import base64
import json
import os
import sys
import threading

import pika
import pika.data
from fedora_messaging import config
from fedora_messaging.twisted.service import _configure_tls_parameters

EXCHANGE = "amq.topic"
PROPERTIES = ("content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id", "reply_to", "expiration",
              "message_id", "timestamp", "type", "user_id", "app_id", "cluster_id")


def say(text):
    print(text, flush=True)


def connect():
    parameters = pika.URLParameters(config.conf["amqp_url"])
    # It sends none while it waits for a line.
    parameters.heartbeat = 0
    if parameters.ssl_options is not None:
        _configure_tls_parameters(parameters)
    return pika.BlockingConnection(parameters)


def keep_types():
    """Headers are decoded with the letter of their type from now on."""
    decode = pika.data.decode_value

    def decode_value(encoded, offset):
        value, end = decode(encoded, offset)
        return [encoded[offset:offset + 1].decode("ascii"), value], end

    pika.data.decode_value = decode_value


def print_delivery(_channel, method, properties, body):
    there = {name: getattr(properties, name) for name in PROPERTIES if getattr(properties, name) is not None}
    told = {"exchange": method.exchange, "routing_key": method.routing_key, "redelivered": method.redelivered,
            "properties": there, "body": body.decode("utf-8", "backslashreplace")}
    say(json.dumps(told, default=str))


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


def listen(channel):
    threading.Thread(target=end_with_stdin, daemon=True).start()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, sys.argv[2])
    channel.basic_consume(queue, print_delivery, auto_ack=True)
    keep_types()
    say("ready")
    channel.start_consuming()


def publish(channel):
    channel.confirm_delivery()
    say("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        body = base64.b64decode(asked["base64"]) if "base64" in asked else asked["body"].encode()
        properties = pika.BasicProperties(**asked.get("properties", {}))
        try:
            channel.basic_publish(EXCHANGE, asked["routing_key"], body, properties, mandatory=True)
            say("ok")
        except pika.exceptions.AMQPError as error:
            say(repr(error))


try:
    channel = connect().channel()
except (pika.exceptions.AMQPError, OSError) as error:
    say(repr(error))
    sys.exit(1)
{"listen": listen, "publish": publish}[sys.argv[1]](channel)
