"""When nobody may be reaped although leases are over: after a start of Redis, and after its clock was set forward.

# Pure: what the server said and when it was asked by this machine's steady clock come in as arguments.
"""

from shared.on_server import Life


class Caution:
    """Until when reaping has to wait, by this machine's steady clock: a lease, in which the living can beat.

    The first start that is heard of has its own age; of a later one only the moment is known in which it was noticed,
    since loading the data may have taken longer than a lease.
    """

    def __init__(self, lease: float) -> None:
        self.until = 0.0
        self._lease = lease
        self._life: Life | None = None
        self._asked = 0.0

    def is_new(self, life: Life) -> bool:
        """True for another start of the server than the one that was heard of last; False for the first."""
        return self._life is not None and self._same_if_silent(life).run_id != self._life.run_id

    def hear(self, life: Life, asked: float, heard: float) -> list[str]:
        """What the server answered until `heard` to a question of `asked`; what people have to know of it."""
        told: list[str] = []
        last, ago, life = self._life, heard - self._asked, self._same_if_silent(life)
        self._life, self._asked = life, asked
        if last is None:
            self.until = heard + self._lease - life.age
            return told
        if life.replication != last.replication:
            told.append(
                "DataLossSuspected: its data set is another one than before. It was restarted, or another server took "
                "over; what had not been saved by then is lost"
            )
        if life.run_id != last.run_id:
            self.until = heard + self._lease
        elif (ahead := life.at - last.at - ago) > self._lease / 3:
            self.until = heard + self._lease
            told.append(f"its clock was set forward by {ahead:.0f} s: for a lease no worker is taken for dead")
        return told

    def _same_if_silent(self, life: Life) -> Life:
        """One that does not tell who it is, as the in-process server or by its rights, is taken for the same."""
        if self._life is None or life.run_id:
            return life
        return life._replace(run_id=self._life.run_id, replication=self._life.replication)
