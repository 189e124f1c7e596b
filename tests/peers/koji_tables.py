"""What the stand-in for a Koji hub knows, and the calls that read and change it. No network in here; koji_hub.py has that.

How a hub behaves was recorded from a real one, 1.35.3 (/work/shared/targets/koji; koji_replay.py compares). The parts of it that a
client notices:

* A call is a transaction. A fault takes everything back. In a multiCall each element has a savepoint: a fault takes back that element.
* The number of a call (callnum) is remembered in the call's transaction, so only of a call that wrote something and did not fail.
  Savepoints count as writing: of a multiCall it is always remembered.
* A package list is inherited: what a tag does not say itself, the tags say that it inherits from. Two tables make a list, packages
  and owners; setting the owner of a package that is only inherited writes into the second one, and changes nothing that anybody sees.
"""

import inspect
import random
import string
import time

GENERIC, AUTH, NOT_ALLOWED, EXPIRED, SEQUENCE, RETRY, OFFLINE, PARAMETER = 1000, 1002, 1004, 1007, 1008, 1009, 1014, 1019
BY_CERTIFICATE, BY_KERBEROS = 2, 3  # koji.AUTHTYPES
PERSON, GROUP = 0, 2  # koji.USERTYPES
ACTIVE, DISABLED = 0, 1  # koji.USER_STATUS


class Refused(Exception):
    """A fault of the hub's."""

    def __init__(self, text, code=GENERIC):
        super().__init__(text)
        self.code = code


class Rows(list):
    """A package list with all its columns: long, and so made into XML in one go (koji_hub.py)."""


class Store:
    """Tables of JSON values. What is put is kept at `commit`, in `keep` (a file opened to append), and taken back at `rollback`."""

    def __init__(self, keep=None):
        self.tables, self.undo, self.redo, self.keep = {}, [], [], keep

    def table(self, name):
        return self.tables.setdefault(name, {})

    def put(self, table, key, value):
        """`value` None: the key goes."""
        rows = self.table(table)
        self.undo.append((table, key, rows.get(key)))
        self.redo.append((table, key, value))
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value

    def mark(self):
        return len(self.undo)

    def rollback(self, mark=0):
        for table, key, old in reversed(self.undo[mark:]):
            if old is None:
                self.table(table).pop(key, None)
            else:
                self.table(table)[key] = old
        del self.undo[mark:], self.redo[mark:]

    def commit(self, to_text):
        if self.keep and self.redo:
            self.keep.write(to_text(self.redo) + "\n")
            self.keep.flush()
        self.undo, self.redo = [], []

    def load(self, redo):
        for table, key, value in redo:
            self.put(table, key, value)
        self.undo, self.redo = [], []


class Hub:
    """One call at a time: `Call` in koji_hub.py holds a lock."""

    def __init__(self, store, on_element):
        self.db, self.on_element = store, on_element
        self.session, self.wrote = None, False

    # What there is

    def user(self, info, strict=True):
        return self.find("user", info, strict and "No such user: %r")

    def tag(self, info, fault="No such tagInfo: %r"):
        return self.find("tag", info, fault)

    def package(self, info, strict=False):
        return self.find("package", info, strict and "No such entry in table package: %s")

    def find(self, table, info, fault):
        """A row by name, or by number as clients do that looked one up before."""
        rows = self.db.table(table)
        if isinstance(info, dict):
            info = info.get("id", info.get("name"))
        if isinstance(info, str) and info in rows:
            return rows[info]
        if isinstance(info, int) and not isinstance(info, bool):
            for row in rows.values():
                if row["id"] == info:
                    return row
        if fault:
            raise Refused(fault % (info,))
        return None

    def add(self, table, name, **columns):
        row = {"id": len(self.db.table(table)) + 1, "name": name, **columns}
        self.put(table, name, row)
        return row

    def put(self, table, key, value):
        self.db.put(table, key, value)
        self.wrote = True

    def add_user(self, name, usertype=PERSON):
        return self.add("user", name, status=ACTIVE, usertype=usertype, principals=[], perms=[])

    def chain(self, tag):
        """The tag, and those that it inherits from, the nearest first."""
        while tag:
            yield tag
            tag = self.tag(tag["parent"]) if tag["parent"] else None

    def row(self, tag, package):
        listed, owner = self.db.table("list/" + tag).get(package), self.db.table("owner/" + tag).get(package)
        if listed is None or owner is None:
            return None
        return {
            "blocked": listed[0],
            "extra_arches": listed[1],
            "owner_id": self.db.table("user")[owner]["id"],
            "owner_name": owner,
            "package_id": self.db.table("package")[package]["id"],
            "package_name": package,
            "tag_id": self.db.table("tag")[tag]["id"],
            "tag_name": tag,
        }

    def config(self, tag, package, inherited=True):
        for one in self.chain(tag) if inherited else [tag]:
            row = self.row(one["name"], package)
            if row:
                return row
        return None

    def write(self, kind, tag, package, value):
        """A new version of a row of `list/` or `owner/`; `None` ends the row. The old one stays in the history."""
        now, history, me = time.time(), self.db.table("history"), self.session["user"]
        name, event = "%s/%s/%s" % (kind, tag, package), len(history) + 1
        key = self.db.table("newest").get(name)
        if key:
            self.put("history", key, {**history[key], "revoked": [event, now], "revoker": me})
        if value is not None:
            row = {"kind": kind, "tag": tag, "package": package, "value": value, "created": [event, now], "creator": me}
            self.put("history", str(event), {**row, "revoked": [None, None], "revoker": None})
        self.put("newest", name, None if value is None else str(event))
        self.put("%s/%s" % (kind, tag), package, value)

    # Who may

    def may_list(self):
        if not self.session:
            raise Refused("you must be logged in for this operation", NOT_ALLOWED)
        if not {"admin", "tag"} & set(self.user(self.session["user"])["perms"]):
            raise Refused("policy violation (package_list): Only admin/tag can do this via default policy", NOT_ALLOWED)

    def may(self, perm):
        name = self.session and self.session["user"]
        if not name or not {"admin", perm} & set(self.user(name)["perms"]):
            who = "logged in as %s" % name if name else "user not logged in"
            raise Refused("%s permission required (%s)" % (perm, who), NOT_ALLOWED)

    # The calls, under the names and with the arguments of the hub's

    def packageListAdd(self, taginfo, pkginfo, owner=None, block=None, extra_arches=None, force=False, update=False):
        tag, package = self.tag(taginfo), self.package(pkginfo)
        if not package and not isinstance(pkginfo, str):
            raise Refused("No such package: %s" % pkginfo)
        if owner is not None:
            owner = self.user(owner)["name"]
        self.may_list()
        if extra_arches is not None and not isinstance(extra_arches, str):
            # A real one takes a list today; older ones break on it, so nobody may send one.
            raise Refused("'%s' object has no attribute 'split'" % type(extra_arches).__name__, 1)
        if not package:
            package = self.add("package", pkginfo)
        name, before = package["name"], self.config(tag, package["name"])
        if before is None:
            if update and not force:
                raise Refused("cannot update: tag %s has no data for package %s" % (tag["name"], name))
            changed, new_owner, block = True, True, bool(block)
        else:
            owner = before["owner_name"] if owner is None else owner
            block = before["blocked"] if block is None else bool(block)
            extra_arches = before["extra_arches"] if extra_arches is None else extra_arches
            changed = (block, extra_arches) != (before["blocked"], before["extra_arches"])
            new_owner = owner != before["owner_name"]
            if not changed and not new_owner and not force:
                return None
            if before["blocked"] and not block and not force:
                raise Refused("package %s is blocked in tag %s" % (name, tag["name"]))
        if owner is None:
            if not force:
                raise Refused("owner not specified")
            owner = self.session["user"]
        if changed:
            self.write("list", tag["name"], name, [block, extra_arches])
        if changed or new_owner:
            self.write("owner", tag["name"], name, owner)
        return None

    def packageListSetOwner(self, taginfo, pkginfo, owner, force=False):
        return self.packageListAdd(taginfo, pkginfo, owner=owner, force=force, update=True)

    def packageListSetArches(self, taginfo, pkginfo, arches, force=False):
        return self.packageListAdd(taginfo, pkginfo, extra_arches=arches, force=force, update=True)

    def packageListBlock(self, taginfo, pkginfo, force=False):
        tag, package = self.tag(taginfo), self.package(pkginfo, True)
        if not any(package["name"] in self.db.table("list/" + one["name"]) for one in self.chain(tag)):
            raise Refused("Package %s is not in tag listing for %s" % (package["name"], tag["name"]))
        return self.packageListAdd(taginfo, pkginfo, block=True, force=force)

    def packageListUnblock(self, taginfo, pkginfo, force=False):
        tag, name = self.tag(taginfo), self.package(pkginfo, True)["name"]
        self.may_list()
        before = self.config(tag, name)
        if before is None:
            raise Refused("no data (blocked or otherwise) for package %s in tag %s" % (name, tag["name"]))
        if not before["blocked"]:
            raise Refused("package %s NOT blocked in tag %s" % (name, tag["name"]))
        if before["tag_name"] == tag["name"]:
            self.remove(tag["name"], name)
            left = self.config(tag, name)
            if left and not left["blocked"]:
                return None
        self.write("list", tag["name"], name, [False, before["extra_arches"]])
        self.write("owner", tag["name"], name, before["owner_name"])
        return None

    def packageListRemove(self, taginfo, pkginfo, force=False):
        tag, package = self.tag(taginfo), self.package(pkginfo, True)
        self.may_list()
        self.wrote = True
        self.remove(tag["name"], package["name"])

    def remove(self, tag, package):
        """The row of the owner stays, as a real one's does."""
        if package in self.db.table("list/" + tag):
            self.write("list", tag, package, None)

    def listPackages(self, tagID=None, userID=None, pkgID=None, prefix=None, inherited=False, with_dups=False, event=None,
                     queryOpts=None, with_owners=True, with_blocked=True):  # fmt: skip
        if tagID is None and userID is None and pkgID is None:
            rows = [{"package_id": row["id"], "package_name": row["name"]} for row in self.db.table("package").values()]
            return [row for row in rows if not prefix or row["package_name"].lower().startswith(prefix.lower())]
        tags = [self.tag(tagID, "No such entry in table tag: %s")] if tagID is not None else self.db.table("tag").values()
        owner = userID is not None and self.user(userID)["name"]
        wanted = [self.package(pkgID, True)["name"]] if pkgID is not None else None
        rows = Rows()
        for tag in list(tags):
            seen = set()
            for one in self.chain(tag) if inherited and tagID is not None else [tag]:
                for name in wanted or self.db.table("list/" + one["name"]):
                    row = name not in seen and self.row(one["name"], name)
                    if row and (with_blocked or not row["blocked"]):
                        seen.add(name)
                        if (not owner or row["owner_name"] == owner) and (not prefix or name.lower().startswith(prefix.lower())):
                            rows.append(row)
        if with_owners:
            return rows
        return [{key: value for key, value in row.items() if not key.startswith("owner_")} for row in rows]

    def getPackageConfig(self, tag, pkg, event=None):
        tag, package = self.tag(tag, None), self.package(pkg)
        return self.config(tag, package["name"]) if tag and package else None

    def checkTagPackage(self, tag, pkg):
        config = self.getPackageConfig(tag, pkg)
        return bool(config) and not config["blocked"]

    def queryHistory(self, tables=None, tag=None, package=None, **_other):
        """Of the two tables of a package list; the others are empty, whatever happened to them."""
        names = {"list": "tag_packages", "owner": "tag_package_owners"}
        found = {"tag_packages": [], "tag_package_owners": []}
        number = lambda table, name: self.db.table(table)[name]["id"]  # noqa: E731
        for row in self.db.table("history").values():
            if (tag and row["tag"] != self.tag(tag)["name"]) or (package and row["package"] != self.package(package, True)["name"]):
                continue
            line = {"active": row["revoker"] is None or None, "tag.name": row["tag"], "tag_id": number("tag", row["tag"])}
            line.update({"package.name": row["package"], "package_id": number("package", row["package"])})
            line.update({"create_event": row["created"][0], "create_ts": row["created"][1]})
            line.update({"creator_name": row["creator"], "creator_id": number("user", row["creator"])})
            line.update({"revoke_event": row["revoked"][0], "revoke_ts": row["revoked"][1], "revoker_name": row["revoker"]})
            line["revoker_id"] = row["revoker"] and number("user", row["revoker"])
            if row["kind"] == "list":
                line.update({"blocked": row["value"][0], "extra_arches": row["value"][1]})
            else:
                line.update({"owner": number("user", row["value"]), "owner.name": row["value"]})
            found[names[row["kind"]]].append(line)
        return {name: rows for name, rows in found.items() if not tables or name in tables}

    def getAPIVersion(self):
        return 1

    def getKojiVersion(self):
        return "1.35.3"

    def about(self, user):
        columns = {key: user[key] for key in ("id", "name", "status", "usertype")}
        return {**columns, "krb_principals": user["principals"]}

    def getLoggedInUser(self):
        if not self.session:
            return None
        about = self.about(self.user(self.session["user"]))
        principals = about["krb_principals"]
        return {**about, "authtype": self.session["authtype"], "krb_principal": principals[0] if principals else None}

    def getPerms(self):
        return list(self.user(self.session["user"])["perms"]) if self.session else []

    def getUserPerms(self, userID=None, with_groups=True):
        return list(self.user(userID or self.session and self.session["user"])["perms"])

    def getUser(self, userInfo=None, strict=False, krb_princs=True, groups=False):
        user = self.user(userInfo, strict)
        return user and self.about(user)

    def getTag(self, tagInfo, strict=False, event=None):
        tag = self.tag(tagInfo, strict and "No such tagInfo: %r")
        return tag and {"id": tag["id"], "name": tag["name"]}

    def createUser(self, username, status=None, krb_principal=None):
        self.may("admin")
        if self.user(username, False):
            raise Refused("user already exists: %s" % username)
        return self.add_user(username)["id"]

    def newGroup(self, name):
        self.may("admin")
        return self.add_user(name, GROUP)["id"]

    def disableUser(self, username):
        self.may("admin")
        self.put("user", username, {**self.user(username), "status": DISABLED})

    def enableUser(self, username):
        self.may("admin")
        self.put("user", username, {**self.user(username), "status": ACTIVE})

    def grantPermission(self, userinfo, permission, create=False, description=None):
        self.may("admin")
        user = self.user(userinfo)
        if permission in user["perms"]:
            raise Refused("user %s already has permission: %s" % (userinfo, permission))
        self.put("user", user["name"], {**user, "perms": [*user["perms"], permission]})

    def createTag(self, name, parent=None, arches=None, perm=None, locked=False, maven_support=False, maven_include_all=False,
                  extra=None):  # fmt: skip
        self.may("tag")
        if self.tag(name, None):
            raise Refused("A tag with the name '%s' already exists" % name)
        return self.add("tag", name, parent=parent is not None and self.tag(parent)["name"] or None)["id"]

    def multiCall(self, calls):
        answers = []
        for call in calls:
            mark = self.db.mark()
            self.wrote = True
            try:
                trouble = self.on_element(len(answers))
                if trouble:
                    raise trouble
                answers.append([self.dispatch(call["methodName"], call["params"])])
            except Refused as fault:
                self.db.rollback(mark)
                answers.append({"faultCode": fault.code, "faultString": str(fault), "traceback": traceback(fault)})
        return answers

    # Sessions

    def open_session(self, user, authtype, master=None):
        number = len(self.db.table("session")) + 1
        row = {"id": number, "key": self.new_key(user), "user": user, "authtype": authtype, "master": master}
        self.put("session", str(number), {**row, "callnum": None, "expired": False, "closed": False})
        return {"session-id": number, "session-key": row["key"], "header-auth": True}

    def new_key(self, user):
        letters = random.choices(string.ascii_letters + string.digits, k=19)
        return "%s-%s" % (self.user(user)["id"], "".join(letters))

    def log_in(self, user, authtype, renew):
        if self.session and not self.session["expired"]:
            raise Refused("Already logged in", AUTH)
        if not self.user(user, False):
            self.add_user(user)
        if self.user(user)["status"] == DISABLED:
            raise Refused("logins by %s are not allowed" % user, AUTH)
        if not (renew and self.session):
            return self.open_session(user, authtype)
        number, key = self.session["id"], self.new_key(user)
        self.put("session", str(number), {**self.session, "key": key, "expired": False})
        return {"session-id": number, "session-key": key, "header-auth": True}

    def subsession(self):
        if not self.session:
            raise Refused("Not logged in", AUTH)
        return self.open_session(self.session["user"], self.session["authtype"], self.session["master"] or self.session["id"])

    def logout(self, session_id=None):
        if not self.session:
            raise Refused("Not logged in", AUTH)
        for key, row in list(self.db.table("session").items()):
            if self.session["id"] in (row["id"], row["master"]):
                self.put("session", key, {**row, "closed": True, "expired": True})

    def load_session(self, number, key, callnum, method):
        """Who calls. The callnum is in this call's transaction, and does not count as something written."""
        row = self.db.table("session").get(number)
        if not row or row["closed"] or row["key"] != key:
            raise Refused("Invalid session or bad credentials", AUTH)
        if row["expired"] and method != "sslLogin":
            raise Refused('session "%s" has expired' % number, EXPIRED)
        last = row["callnum"]
        if callnum is not None and last is not None:
            if last > callnum:
                raise Refused("%s > %s (session %s)" % (last, callnum, number), SEQUENCE)
            if last == callnum:
                raise Refused("unable to retry call %s (method %s) for session %s" % (callnum, method, number), RETRY)
        if row["expired"]:
            return row
        if self.user(row["user"])["status"] == DISABLED:
            raise Refused("logins by %s are not allowed" % row["user"], AUTH)
        if callnum is not None:
            self.db.put("session", number, {**row, "callnum": callnum})
        return self.db.table("session")[number]

    def dispatch(self, method, params, login=None):
        """`login` does sslLogin: it needs what the connection knows."""
        if method == "sslLogin":
            handler = login
        else:
            handler = getattr(self, method) if method in CALLS else None
        if not handler:
            raise Refused("Invalid method: %s" % method)
        params, named = list(params), {}
        if params and isinstance(params[-1], dict) and params[-1].get("__starstar"):
            named = {key: value for key, value in params.pop().items() if key != "__starstar"}
        try:
            inspect.signature(handler).bind(*params, **named)
        except TypeError as error:
            text = str(error).replace("missing a required argument", "missing 1 required positional argument")
            raise Refused("%s() %s" % ({"packageListAdd": "pkglist_add"}.get(method, method), text), PARAMETER) from error
        return handler(*params, **named)


CALLS = set(
    """packageListAdd packageListSetOwner packageListSetArches packageListBlock packageListUnblock packageListRemove
    listPackages getPackageConfig checkTagPackage queryHistory getAPIVersion getKojiVersion getLoggedInUser getPerms getUserPerms
    getUser getTag createUser newGroup disableUser enableUser grantPermission createTag multiCall subsession
    logout""".split()
)


def traceback(fault):
    """As long as a real one's, about 1,500 bytes; clients must read over it."""
    frames = [("kojixmlrpc", "multiCall"), ("kojixmlrpc", "_dispatch"), ("koji", "call_with_argcheck")]
    frames += [("kojihub", name) for name in ("pkglist_setowner", "pkglist_add", "_direct_pkglist_add")]
    lines = ['  File "/usr/share/koji-hub/%s.py", line 1, in %s\n%s\n' % (file, name, " " * 150) for file, name in frames]
    return ["Traceback (most recent call last):\n", *lines, "koji.GenericError: %s\n" % fault]
