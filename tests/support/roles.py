"""Users of a Redis as `users.acl` has them, with passwords that tests know."""

import hashlib
import re
from collections.abc import Iterable
from urllib.parse import quote

import redis

from shared.roles import ROLES, rule, users
from tests.support.server import RedisServer

_PLACEHOLDER = re.compile(r"#sha256-of-the-password-of-(\S+)")


def password_of(user: str) -> str:
    return f"secret of {user}"


def with_passwords(lines: Iterable[str]) -> list[str]:
    """Lines of `users.acl`, with hashes where they have to be put."""

    def hashed(placeholder: re.Match[str]) -> str:
        return "#" + hashlib.sha256(password_of(placeholder[1]).encode()).hexdigest()

    return [_PLACEHOLDER.sub(hashed, line) for line in lines]


def acl_file(queues: Iterable[str] = ("q",)) -> str:
    """The text of a `users.acl` that a server loads."""
    return "\n".join(with_passwords(users(tuple(queues)))) + "\n"


def url_of(server: RedisServer, user: str) -> str:
    """The server's address, for this user."""
    return server.url.replace("//", f"//{user}:{quote(password_of(user))}@")


def client_of(server: RedisServer, user: str) -> redis.Redis:
    """A plain client, logged in as this user."""
    as_texts = {"decode_responses": True, "encoding_errors": "backslashreplace"}
    return redis.Redis(port=server.port, username=user, password=password_of(user), **as_texts)


def add_role(client: redis.Redis, name: str) -> None:
    """Have a server know this role, and leave who is the administrator of its other users as it is."""
    knows_reading = int(client.info("server")["redis_version"].split(".")[0]) >= 7
    (role,) = [role for role in ROLES if role.name == name]
    (line,) = with_passwords([rule(role, knows_reading=knows_reading)])
    client.execute_command("ACL", "SETUSER", name, "reset", *line.split()[2:])
