"""Cached results in Redis. Their lifetimes are those of their keys: the server's clock alone ends them."""

from collections.abc import Sequence
from math import ceil

from shared import keys
from shared.errors import BadEnvelope
from shared.result_storage import StoredRecord
from shared.scripts import SCRIPTS
from shared.transport import Argument, Transport


class RedisStorage:
    """A key for each record, next to the runs. Repeats are harmless: what is written twice is there once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def read(self, key: str, most: int) -> bytes | None:
        """As `Storage.read`."""
        # A string that is not there reads as an empty one, and no record is empty.
        (answer,) = self._transport.read([("GETRANGE", keys.result(key), 0, most - 1)])
        if isinstance(answer, Exception):
            raise BadEnvelope(f"{keys.result(key)}: {answer}")
        return answer or None

    def write(self, records: Sequence[StoredRecord]) -> None:
        """As `Storage.write`, all or none."""
        arguments: list[Argument] = []
        for record in records:
            arguments += ("" if record.seconds is None else max(0, ceil(record.seconds * 1000)), record.data)
        if records:
            self._transport.evaluate(SCRIPTS["keep"], [keys.result(record.key) for record in records], arguments)

    def delete(self, key: str) -> None:
        """As `Storage.delete`."""
        self.write([StoredRecord(key, b"", 0)])
