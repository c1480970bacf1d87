"""A Redis inside this process, for tests and for machines without a server. The only module that imports fakeredis.

Every `memory:` address is a Redis of its own. It lives as long as there are connections to it.
"""

import threading
from weakref import WeakValueDictionary

import fakeredis

from shared.connections import Connections
from shared.settings import Settings

_lock = threading.Lock()
_servers: WeakValueDictionary[str, fakeredis.FakeServer] = WeakValueDictionary()


def connections_to(settings: Settings, *, budget: float) -> Connections:
    """Connections to the Redis that this address stands for; it is made now if there is none yet."""
    with _lock:
        server = _servers.get(settings.redis_url)
        if server is None:
            server = _servers[settings.redis_url] = fakeredis.FakeServer()
    return Connections(fakeredis.FakeRedis(server=server, protocol=2), budget=budget, address=settings.redis_url)
