"""Doing what an engine asks for, in this thread. Decides nothing: proposals go to whoever knows the rules."""

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

from shared.ledger import RunLedger
from shared.states import State
from shared.stepping import Do, drive
from shared.transactions import inside
from worker.context import in_body, run_context
from worker.engine.base import BaseTaskRunEngine
from worker.engine.beginning import Dependencies
from worker.engine.gathering import gathered
from worker.engine.performing import advance, answer_of, asked, call, end_of, sleep
from worker.engine.place import Place
from worker.engine.recording import current_recorder
from worker.engine.steps import (
    Abandoned,
    Ask,
    Call,
    Close,
    Emit,
    Gather,
    Next,
    Open,
    Propose,
    Sleep,
    Step,
    Take,
)
from worker.run_transactions import RunTransaction

P = ParamSpec("P")
R = TypeVar("R")


class SyncTaskRunEngine(BaseTaskRunEngine[P, R]):
    """Drives a run in the calling thread. An `async def` function runs on an event loop of its own."""

    def run(self) -> State[Any]:
        """Run to the end of the last attempt here; the state that then holds."""
        return drive(self.steps(), self.perform)

    def end(self, outcome: State[Any]) -> State[Any]:
        """End a run whose body cannot be called; the state that then holds."""
        return drive(self.end_steps(outcome), self.perform)

    def stream(self) -> Generator[Any, None, None]:
        """Run a generator task, and yield its items as they come. Closed early, it ends the run."""
        steps = self.steps()
        move: Callable[[], Step] = partial(next, steps)
        while True:
            try:
                step = move()
            except StopIteration:
                return
            try:
                if isinstance(step, Emit):
                    yield step.value
                    move = partial(steps.send, None)
                else:
                    move = partial(steps.send, self.perform(step))
            except GeneratorExit:
                move = partial(steps.throw, Abandoned())
            except BaseException as error:  # noqa: BLE001 - as in `drive`
                move = partial(steps.throw, error)

    def perform(self, step: Step) -> Any:
        """Do one step; what comes of it."""
        place = self._place or self.place
        if isinstance(step, Propose):  # with the next one all that most runs ask for
            return place.propose(step.state, step.retriable)
        if isinstance(step, Call):
            about = in_body(self.around_body(place))
            if not self.spec.log_prints and self.transaction is None:
                with run_context(about), place.guard(about.fence, step.seconds):
                    return call(step)
            # The guard within: what may strike in any line must not strike in what puts the others in place.
            with run_context(about), self.prints(), self.in_transaction(), place.guard(about.fence, step.seconds):
                return call(step)
        return self._perform_other(place, step)

    def _do(self, place: Place, step: Do) -> Any:
        about = self.around_body(place)
        around: AbstractContextManager[None] = nullcontext()
        if step.kind in ("hook", "ahook"):
            around = place.around_hook()
        elif step.kind == "wait":
            around = place.guard(about.fence, None)
        with run_context(about), around:
            return step.call()

    # --- the stages, one by one ---------------------------------------------------------------------------------------

    @contextmanager
    def initialize_run(
        self, task_run_id: str | UUID | None = None, dependencies: Dependencies | None = None
    ) -> Iterator[Self]:
        """Record the run, or find the one of this id, and hold it in this process for the length of the block.

        Raises:
            ParameterBindError: the parameters do not fit the function.
            InvalidValue: no id.
            TransitionRefused: another process holds the run.
            RedisUnavailable: there is a server, which does not answer; nothing was recorded.
        """
        place = self._begun(current_recorder(), task_run_id, dependencies)
        try:
            yield self
        finally:
            place.release()

    @contextmanager
    def start(self, task_run_id: str | UUID | None = None, dependencies: Dependencies | None = None) -> Iterator[None]:
        """Hold the run, wait for what it needs, and begin its first attempt; in the end call the hooks that are due.

        In the block, as long as `is_running`, is one attempt after the other.

        Raises:
            As `initialize_run`.
        """
        with self.initialize_run(task_run_id, dependencies):
            had_ended = self.state.is_final()
            drive(self.start_steps(), self.perform)
            try:
                yield
            finally:
                if not had_ended:
                    drive(self.finish_steps(), self.perform)

    @contextmanager
    def setup_run_context(self, client: RunLedger | None = None) -> Iterator[None]:  # noqa: ARG002 - as it is known
        """Make the run that of the code in the block: its context, its tags, and where its prints go."""
        with run_context(self.around_body(self.place)), self.prints():
            yield

    @contextmanager
    def run_context(self) -> Iterator[None]:
        """Make an outcome of what is raised in the block; an interrupt is recorded and goes on."""
        try:
            yield
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the user's function raises is its outcome
            drive(self.error_steps(error), self.perform)
        if self.crash is not None:
            raise self.crash

    def asset_context(self) -> AbstractContextManager[None]:
        """Nothing: a place for subclasses."""
        return nullcontext()

    @contextmanager
    def transaction_context(self) -> Iterator[RunTransaction]:
        """The transaction of the present attempt, around the code in the block: rolled back if that raises.

        It ends with `handle_success`, which `call_task_fn` calls.
        """
        transaction = drive(self.open_transaction_steps(), self.perform)
        try:
            with inside(transaction):
                yield transaction
        except BaseException:
            drive(transaction.undo_steps(), self.perform)
            raise
        finally:
            self.transaction = None

    def call_task_fn(self, transaction: RunTransaction | None = None) -> Any:
        """One call of the function, within its time limit; its value, whose outcome is recorded.

        With a transaction that has found a cached value, that one: the function is not called.

        Raises:
            Whatever the function raised, in the form that `run_context` knows.
        """
        if transaction is not None and transaction.found is not None:
            drive(self.cached_steps(transaction.found, transaction.key), self.perform)
            return transaction.found.result
        return self.handle_success(drive(self.call_task_fn_steps(), self.perform), transaction)

    def handle_success(self, result: Any, transaction: RunTransaction | None = None) -> Any:
        """Record what the function returned, or what the rules make of it, and commit its transaction; the value."""
        if transaction is None:
            drive(self.handle_success_steps(result), self.perform)
        else:
            drive(self.commit_steps(result, transaction), self.perform)
        return result

    def begin_run(self) -> None:
        """Ask for RUNNING, and wait for it as long as the run is to wait here."""
        drive(self.begin_run_steps(), self.perform)

    def wait_until_ready(self) -> None:
        """Wait for as long as the run is to wait here."""
        drive(self.wait_until_ready_steps(), self.perform)

    def set_state(self, state: State[Any], force: bool = False) -> State[Any]:
        """Propose a state, or write it without asking the rules; the one that now holds.

        Raises:
            Fenced: the run is another's now.
        """
        drive(self.set_state_steps(state, force=force), self.perform)
        return self.state

    def can_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """What the task's condition says of this failure; True where there is none."""
        return drive(self.can_retry_steps(exc_or_state), self.perform)

    def handle_exception(self, exc: Exception) -> None:
        """Record what the function raised, or what the rules make of it."""
        drive(self.handle_exception_steps(exc), self.perform)

    def handle_timeout(self, exc: TimeoutError) -> None:
        """Record that the time was over, or what the rules make of it."""
        drive(self.handle_timeout_steps(exc), self.perform)

    def handle_retry(self, exc_or_state: Exception | State[Any]) -> bool:
        """Record a failure, or what the rules make of it; True if the run is tried again."""
        return drive(self.handle_retry_steps(exc_or_state), self.perform)

    def handle_crash(self, exc: BaseException) -> None:
        """Record that the run was interrupted."""
        drive(self.handle_crash_steps(exc), self.perform)

    def call_hooks(self, state: State[Any] | None = None) -> None:
        """Call the hooks of a state, by default of the one that holds."""
        drive(self.call_hooks_steps(state), self.perform)

    def result(self, raise_on_failure: bool = True) -> Any:
        """As `State.result`, of the state that holds."""
        return self.state.result(raise_on_failure)

    # --- what they share ----------------------------------------------------------------------------------------------

    def _perform_other(self, place: Place, step: Step) -> Any:
        answer: Any = None
        match step:
            case Next(stream):
                about = self.around_body(place)
                with run_context(about), self.prints(), self.in_transaction(), place.guard(about.fence, stream.seconds):
                    answer = advance(stream)
            case Gather():
                about = place.context(self.parameters)
                with run_context(about), place.guard(about.fence, None):
                    answer = gathered(about.run_id, step)
            case Ask(fn, args):
                with run_context(place.context(self.parameters)), place.around_hook():
                    answer = answer_of(fn(*args))
            case Open(fn, args, kwargs):
                answer = fn(*args, **kwargs)
            case Close(stream):
                with run_context(place.context(self.parameters)):
                    stream.items.close()
            case Sleep(until):
                sleep(until, place)
            case Do():
                answer = self._do(place, step)
            case Take(inputs):
                answer = place.taken(inputs, {run_id: end_of(source) for run_id, source in inputs.sources.items()})
            case _:
                answer = asked(place, step)
        return answer
