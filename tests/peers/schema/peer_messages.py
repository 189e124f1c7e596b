"""A package of message schemas, as Fedora's applications publish them: found through the entry points beside this file."""

from fedora_messaging.message import Message


class GroupChangeV1(Message):
    """Somebody's membership in a group has changed."""

    body_schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"user": {"type": "string"}, "group": {"type": "string"}, "package": {"type": "string"}},
        "required": ["user", "group"],
    }

    @property
    def usernames(self):
        return [self.body["user"]]

    @property
    def groups(self):
        return [self.body["group"]]

    @property
    def packages(self):
        return [self.body["package"]] if "package" in self.body else []
