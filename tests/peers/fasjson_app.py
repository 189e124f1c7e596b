"""The real FASJSON (PyPI) for gunicorn, on the test's slapd.

In production Apache with mod_auth_gssapi stands in front of it. Its part is done here, and for real: the client's Negotiate token is
accepted with the keytab of HTTP/localhost (KRB5_KTNAME), the token that proves the server goes back, and FASJSON gets the caller's
name. What FreeIPA adds is delegation: FASJSON asks LDAP as the caller. Here one caller (FASJSON_CALLER) has a ticket cache waiting;
any other who proves a name is refused by FASJSON itself.
"""

import base64
import os

import dns.exception
import gssapi
import ldap

from fasjson.lib.ldap.client import LDAP
from fasjson.web.extensions import flask_ipacfg


def no_srv_records(*_args, **_kwargs):
    raise dns.exception.DNSException("there is no DNS in the tests")


def missing_is_none(search):
    """389-ds answers a search at an entry that is not there so that FASJSON sees no entries; OpenLDAP says noSuchObject."""

    def wrapped(self, base_dn, filters, model, attrs=None, scope=ldap.SCOPE_SUBTREE):
        try:
            return search(self, base_dn, filters, model, attrs=attrs, scope=scope)
        except ldap.NO_SUCH_OBJECT:
            if scope == ldap.SCOPE_BASE:
                return []
            raise

    return wrapped


flask_ipacfg.query_srv = no_srv_records
LDAP._do_search = missing_is_none(LDAP._do_search)

from fasjson.web.app import create_app  # noqa: E402  (after the two lines above)

BASE, REALM = os.environ["FASJSON_BASE"], os.environ["FASJSON_REALM"]
app = create_app(
    {
        "FASJSON_IPA_BASEDN": BASE,
        "FASJSON_IPA_DOMAIN": REALM.lower(),
        "FASJSON_IPA_REALM": REALM,
        "FASJSON_IPA_SERVER": os.environ["FASJSON_LDAP"],
        "FASJSON_IPA_CONFIG_LOADED": True,
        "FASJSON_LDAP_TIMEOUT": 10,
    }
)


def refuse(start_response, why):
    """What mod_auth_gssapi and FASJSON's page for it answer."""
    body = b'{"message": "Credential lifetime has expired or you are not authenticated: %s"}' % why.encode()
    headers = [("WWW-Authenticate", "Negotiate"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("401 UNAUTHORIZED", headers)
    return [body]


def application(environ, start_response):
    scheme, _, token = environ.pop("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "negotiate" or not token:
        return refuse(start_response, "no token")
    try:
        context = gssapi.SecurityContext(usage="accept")
        answer = context.step(base64.b64decode(token, validate=True))
        if not context.complete:
            return refuse(start_response, "one token must do")
        caller = str(context.initiator_name)
    except (gssapi.exceptions.GSSError, ValueError) as error:
        return refuse(start_response, type(error).__name__)
    print("negotiated", caller, flush=True)
    environ["GSS_NAME"] = caller
    environ["KRB5CCNAME"] = os.environ["FASJSON_TICKETS"]

    def with_proof(status, headers, exc_info=None):
        proof = [("WWW-Authenticate", "Negotiate " + base64.b64encode(answer).decode())] if answer else []
        return start_response(status, headers + proof, exc_info)

    return app(environ, with_proof)
