"""The way to connections. Here, and only here, client libraries are imported late: they cost as much as all else."""

from shared.settings import Settings
from shared.transport import Exchange


def connect(settings: Settings, budget: float | None = None) -> Exchange:
    """Connections to the Redis of the settings. No connection is made yet.

    `budget`: seconds to go on trying a call, by default that of a producer.

    Raises:
        ConfigError: the URL is not one of Redis.
    """
    seconds = settings.producer_budget if budget is None else budget
    if settings.redis_url.startswith("memory:"):
        from shared.memory import connections_to  # noqa: PLC0415

        return connections_to(settings, budget=seconds)
    from shared.connections import Connections  # noqa: PLC0415

    return Connections.to(settings, budget=seconds)
