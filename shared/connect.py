"""The way to connections. Here, and only here, the client library is imported late."""

from shared.settings import Settings
from shared.transport import Exchange


def connect(settings: Settings, budget: float | None = None) -> Exchange:
    """Connections to the Redis of the settings. No connection is made yet.

    `budget`: seconds to go on trying a call, by default that of a producer.

    Raises:
        ConfigError: the URL is not one of Redis.
    """
    # The one late import: the client library costs as much time as all the rest, and `baton --help` needs none of it.
    from shared.connections import Connections  # noqa: PLC0415

    return Connections.to(settings, budget=settings.producer_budget if budget is None else budget)
