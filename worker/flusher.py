"""The thread beside a worker's main thread that notices a long body. Touches Redis through the hand only."""

import logging
import threading
import time

from shared.errors import RedisUnavailable
from worker.hand import Buried, Hand

log = logging.getLogger("baton.worker")


class Flusher(threading.Thread):
    """Sleeps beside each batch until the batch is overdue; parked while there is none."""

    def __init__(self, hand: Hand) -> None:
        super().__init__(name="baton-flusher", daemon=True)
        self._hand = hand
        self._armed = threading.Event()
        self._closed = False

    def arm(self) -> None:
        """A batch was begun. Costs a look at a flag while batches follow each other."""
        if not self._armed.is_set():
            self._armed.set()

    def close(self) -> None:
        """No more batches will come."""
        self._closed = True
        self._armed.set()

    def run(self) -> None:
        """Watch batches until `close`."""
        while True:
            self._armed.wait()
            if self._closed:
                return
            left = self._hand.overdue_in()
            if left is None:
                self._armed.clear()
                # The main thread may have begun a batch in between and seen the flag still set.
                if self._hand.overdue_in() is not None:
                    self._armed.set()
            elif left > 0:
                time.sleep(left)
            else:
                self._flush()

    def _flush(self) -> None:
        try:
            self._hand.flush()
        except (Buried, RedisUnavailable) as error:
            # The main thread hears the same with its next call; it is the one to act on it.
            log.warning("flush: %s", error)
            self._armed.clear()
        except Exception:
            log.exception("flush: an error of its own")  # this thread may not end: nothing would end a batch any more
            self._armed.clear()
