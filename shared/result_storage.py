"""Where stores of results keep their records, as bytes under keys: a directory, or the memory of this process.

Knows nothing of records but their bytes and lifetimes. `result_redis.py` keeps them in Redis.
"""

import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from struct import error as StructError  # noqa: N812 - it is a class
from typing import NamedTuple, Protocol

from shared.clock import monotonic, unix_nanoseconds
from shared.errors import BadEnvelope, ConfigError, StorageFull
from shared.ids import new_id

_END = Struct(">Q")
_LATEST = 2**64 - 1
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoredRecord(NamedTuple):
    """A record as it is kept. `seconds` is how long from now on, None for ever; one of 0 or less is not kept."""

    key: str
    data: bytes
    seconds: float | None


class Storage(Protocol):
    """Keeps records of any number of threads and processes. A record whose time is over does not exist."""

    def read(self, key: str, most: int) -> bytes | None:
        """The bytes under this key, None if there are none. Of more than `most` bytes some are cut off.

        Raises:
            BadEnvelope: what is there cannot be read.
            RedisUnavailable: no answer.
        """

    def write(self, records: Sequence[StoredRecord]) -> None:
        """Keep these records instead of those that were under their keys.

        Raises:
            StorageFull, RedisUnavailable: they are not kept, or nobody knows.
            ConfigError: nothing can be kept here.
        """

    def delete(self, key: str) -> None:
        """Keep nothing under this key any more. Raises what `write` does."""


@dataclass(frozen=True)
class DirectoryStorage:
    """A file for each record, for its owner alone. Times are told by this machine's clock.

    The directory is made when it is first written to. Files of records whose time is over stay until their keys are
    written again; a process that is killed while it writes leaves a file `*.new`, which nobody reads.
    """

    # A file is 8 bytes, when its time is over in nanoseconds since 1970 or 0, and the record. It is written beside its
    # place and moved there, so nobody ever reads half of it.
    folder: Path

    def read(self, key: str, most: int) -> bytes | None:
        """As `Storage.read`."""
        place = self._place(key)
        try:
            with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                (end,) = _END.unpack(file.read(_END.size))
                return None if 0 < end <= unix_nanoseconds() else file.read(most)
        except FileNotFoundError:
            return None
        except (OSError, StructError) as error:
            raise BadEnvelope(f"{place} cannot be read: {error}") from error

    def write(self, records: Sequence[StoredRecord]) -> None:
        """As `Storage.write`: all are written before the first one is moved to its place."""
        fresh: list[tuple[Path, Path]] = []
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for record in records:
                place = self._place(record.key)
                beside = place.with_name(f"{place.name}.{new_id()}.new")
                fresh.append((beside, place))
                _write_file(beside, record)
            for beside, place in fresh:
                beside.replace(place)
        except BaseException as error:
            for beside, _ in fresh:
                beside.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._refused(error) from error
            raise

    def delete(self, key: str) -> None:
        """As `Storage.delete`."""
        try:
            self._place(key).unlink(missing_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def _place(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()

    def _refused(self, error: OSError) -> ConfigError | StorageFull:
        kind = StorageFull if error.errno in _FULL else ConfigError
        return kind(f"no results can be kept in {self.folder}: {error}")


def _write_file(path: Path, record: StoredRecord) -> None:
    end = 0 if record.seconds is None else min(unix_nanoseconds() + int(record.seconds * 1e9), _LATEST)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(_END.pack(end))
        file.write(record.data)


@dataclass(frozen=True, eq=False)
class MemoryStorage:
    """Records of this process alone: they end with it."""

    _kept: dict[str, tuple[bytes, float | None]] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def read(self, key: str, most: int) -> bytes | None:
        """As `Storage.read`."""
        with self._lock:
            data, end = self._kept.get(key, (None, None))
            if data is not None and end is not None and end <= monotonic():
                del self._kept[key]
                return None
        return None if data is None else data[:most]

    def write(self, records: Sequence[StoredRecord]) -> None:
        """As `Storage.write`."""
        with self._lock:
            for key, data, seconds in records:
                self._kept[key] = (data, None if seconds is None else monotonic() + seconds)

    def delete(self, key: str) -> None:
        """As `Storage.delete`."""
        with self._lock:
            self._kept.pop(key, None)
