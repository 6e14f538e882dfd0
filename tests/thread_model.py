"""What threadhooks promises, in a few plain lists: a model of threads, plugins and resources, for random programs."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol
from unittest.mock import ANY


class Machine(Protocol):
    """What the model tells of failures."""

    def report(self, error: BaseException, thread: Any, hook: str | None, plugin: str | None) -> None: ...


class Info(NamedTuple):
    thread: Any
    name: str


class Record:
    """A cleanup of the model: a finalizer, a reference, what a plugin registered, or an open value."""

    is_ref = False
    override: Any = None  # a subclass's `__call__`

    def __init__(
        self, model: Model, func: Any, args: Any = (), kwargs: Any = None, plugin: Any = None, early: bool = False
    ) -> None:
        self.model, self.func, self.args, self.kwargs, self.plugin = model, func, args, kwargs or {}, plugin
        self.thread = model.here.attach()
        self.early = early and not self.thread.early_is_over
        self.thread.stack.append(self)

    @property
    def alive(self) -> bool:
        return self in self.thread.stack

    def peek(self) -> Any:
        return (self.thread, self.func, self.args, self.kwargs) if self.alive else None

    def detach(self) -> Any:
        state = self.peek()
        if state:
            self.thread.stack.remove(self)
        return state

    def __call__(self) -> Any:
        if self.is_ref:
            if not self.alive or self in self.thread.dead_refs:
                return None
            return ANY if self.thread.exiting else self.thread  # that one was made during the exit: not promised
        return self.override(self.alive, self.call) if self.override else self.call()

    def call(self) -> Any:
        return self.func(*self.args, **self.kwargs) if self.detach() else None


class ModelThread:
    def __init__(self, name: str) -> None:
        self.name = name
        self.attached = self.announces = self.exiting = self.early_is_over = False
        self.stack: list[Record] = []
        self.dead_refs: list[Record] = []  # whose callbacks will run, whatever becomes of them
        self.error: BaseException | None = None

    def attach(self) -> ModelThread:
        self.attached = True
        return self


class ModelPlugin:
    def __init__(self, model: Model, name: str) -> None:
        self.model, self.name, self.closed = model, name, False

    def register(self, func: Any, /, *args: Any, **kwargs: Any) -> None:
        self._register(False, func, args, kwargs)

    def register_early(self, func: Any, /, *args: Any, **kwargs: Any) -> None:
        self._register(True, func, args, kwargs)

    def _register(self, early: bool, func: Any, args: Any, kwargs: Any) -> None:
        if self.closed:
            raise RuntimeError
        Record(self.model, func, args, kwargs, self, early)

    def unregister(self, func: Any) -> None:
        stack = self.model.here.stack
        stack[:] = [record for record in stack if not (record.plugin is self and record.func is func)]

    def pending(self) -> Any:
        found = {}
        for thread in self.model.threads:
            mine = [record for record in reversed(thread.stack) if record.plugin is self]
            mine.sort(key=lambda record: not record.early)
            if mine:
                found[thread] = [(record.func, record.args, record.kwargs) for record in mine]
        return found

    def connect(self, signal: str, func: Any) -> None:
        if self.closed:
            raise RuntimeError
        self.model.receivers.append((signal, None, func, self))

    def close(self, *, run: bool = False) -> None:
        self.closed = True
        self.model.receivers[:] = [entry for entry in self.model.receivers if entry[3] is not self]
        mine = sorted((r for r in reversed(self.model.here.stack) if r.plugin is self), key=lambda r: not r.early)
        for thread in self.model.threads:
            thread.stack[:] = [r for r in thread.stack if r.plugin is not self]
        for record in mine if run else []:
            self.model.call(record.func, *record.args, plugin=self, **record.kwargs)


class ModelResource:
    def __init__(self, model: Model, func: Any, early: bool) -> None:
        self.model, self.early = model, early
        self.func = contextmanager(func) if inspect.isgeneratorfunction(func) else func
        self.name = func.__qualname__
        self.open: dict[Any, Any] = {}  # the manager, the value and the record

    def __call__(self, *args: Any) -> Any:
        here = self.model.here.attach()
        key = here, args
        if key not in self.open:
            manager = self.func(*args)
            value = manager.__enter__()
            crashed_before = here.error is not None

            def close() -> None:
                del self.open[key]
                error = here.error if record not in here.stack and not crashed_before else None
                manager.__exit__(type(error) if error else None, error, error and error.__traceback__)

            close.__qualname__ = self.name
            record = Record(self.model, close, early=self.early)
            self.open[key] = value, manager, record
        return self.open[key][0]

    def close(self, *args: Any) -> None:
        key = self.model.here, args
        if key in self.open:
            _, manager, record = self.open.pop(key)
            record.detach()
            manager.__exit__(None, None, None)


class Model:
    """What threadhooks promises, in a single thread that plays all of them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.here = ModelThread(threading.current_thread().name)
        self.threads: list[ModelThread] = []
        self.receivers: list[tuple[str, ModelThread | None, Any, ModelPlugin | None]] = []
        self.muted = self.installed = 0

    def attach(self) -> None:
        self.here.attach()

    def finalize(self, func: Any, /, *args: Any, **kwargs: Any) -> Record:
        return Record(self, func, args, kwargs)

    def derived(self, override: Any, func: Any) -> Record:
        record = Record(self, func)
        record.override = override
        return record

    def ref(self, callback: Any) -> Record:
        record = Record(self, callback)
        record.is_ref = True
        record.args = (record,)
        return record

    def drop(self, thing: Record) -> None:
        if thing.is_ref and thing not in thing.thread.dead_refs:
            thing.detach()

    def plugin(self, name: str) -> ModelPlugin:
        return ModelPlugin(self, name)

    def per_thread(self, func: Any, early: bool) -> ModelResource:
        return ModelResource(self, func, early)

    def connect(self, signal: str, func: Any) -> None:
        """Hear of the current thread alone."""
        self.receivers.append((signal, self.here, func, None))

    def connected(self, signal: str) -> int:
        return [entry[0] for entry in self.receivers].count(signal)

    @contextmanager
    def muting(self) -> Generator[None]:
        self.muted += 1
        try:
            yield
        finally:
            self.muted -= 1

    def call(self, func: Any, /, *args: Any, plugin: Any = None, name: Any = None, **kwargs: Any) -> None:
        try:
            func(*args, **kwargs)
        except BaseException as error:
            name = getattr(func, "__qualname__", None) or repr(name or func)
            self.machine.report(error, self.here, name, plugin and plugin.name)

    def send(self, signal: str) -> None:
        here = self.here
        extra = {} if signal == "thread_started" else {"exception": here.error}
        for what, sender, func, plugin in list(self.receivers):
            if what == signal and sender in (None, here) and not (plugin and plugin.closed):
                if not (signal == "thread_exited" and self.muted):
                    self.call(func, here, info=Info(here, here.name), plugin=plugin, **extra)

    def unwind(self, *, early: bool) -> None:
        here = self.here
        while True:
            waiting = [r for r in here.stack if (r.early or not early) and not (r.is_ref and r.func is None)]
            if not waiting:
                return
            record = waiting[-1]
            if record.override:  # which finds it alive
                self.call(record, name=record.func)
                record.detach()
            else:
                here.stack.remove(record)
                self.call(record.func, *record.args, plugin=record.plugin, **record.kwargs)

    def run(self, name: str, mode: str, body: Callable[[], None]) -> None:
        before, self.here = self.here, ModelThread(name)
        here = self.here
        self.threads.append(here)
        self.installed += mode == "installed"
        here.announces = mode == "announced" or bool(self.installed)
        error = None
        if here.announces:
            here.attach()
            self.send("thread_started")
        try:
            body()
        except BaseException as raised:
            error = raised
        if here.announces:
            here.error = error
            self.unwind(early=True)
            self.send("thread_exiting")
            self.unwind(early=True)
            here.announces = False
        if error:  # as threading does
            self.machine.report(error, here, None, None)
        here.exiting = True
        here.dead_refs = [record for record in here.stack if record.is_ref]
        if here.attached:
            self.unwind(early=True)
            here.early_is_over = True
            self.unwind(early=False)
            self.send("thread_exited")
            here.error = None
            self.unwind(early=False)
        here.stack.clear()
        self.receivers[:] = [entry for entry in self.receivers if entry[1] is not here]
        self.installed -= mode == "installed"
        self.here = before
