"""What a Redis URL asks of the link to its server. Connects to nothing."""

from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

_OFF = ("none", "false", "0", "no", "off", "f", "n")


class Link(NamedTuple):
    """`shows_password`: unencrypted, to another machine. `trusts_anybody`: encrypted, to whoever answers."""

    shows_password: bool
    trusts_anybody: bool


_NONE = Link(shows_password=False, trusts_anybody=False)


def link_to(url: str) -> Link:
    """What this URL asks for; nothing of what cannot be taken apart, which is refused elsewhere."""
    try:
        parts = urlsplit(url)
        # As the client reads it: of an option given twice the first counts, and one may name the host.
        options = {name.lower(): values[0].lower() for name, values in parse_qs(parts.query).items()}
        host, _ = parts.hostname or options.get("host", ""), parts.port
    except ValueError:
        return _NONE
    if parts.fragment or "@" in parts.path:
        return _NONE  # its password is not percent-encoded: what looks like its host is none
    has_password = bool(parts.password) or "password" in options
    checks = (options.get("ssl_cert_reqs"), options.get("ssl_check_hostname"))
    return Link(
        shows_password=parts.scheme == "redis" and has_password and not _is_here(host),
        trusts_anybody=parts.scheme == "rediss" and any(check in _OFF for check in checks),
    )


def _is_here(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
