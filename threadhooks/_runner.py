"""``python -m threadhooks run``: run a program as Python does, and tell at its end what its threads have done.

Guarantees:

- The program sees what it sees without us: `sys.argv`, `sys.path`, its ``__main__``, the dispositions of its signals.
  Its exit status is the same, and so is what it says when it crashes.
- The summary comes after the threads that are not daemons have been joined, and after the program's `atexit` handlers.
  A program that SIGTERM ends is summed up as well, and then dies of that signal.
- A forked child says nothing, nor does a process that the program starts.

What it does not promise:

- A process that ends by `os._exit`, by `os.execv` and its like, or by any other deadly signal, is not summed up.
- What hooks of the main thread do comes after the summary.
- Unless the program handles SIGTERM itself, it is a handler of ours that comes first. Python calls it between two
  bytecodes of the main thread, so a call into C that does not return delays the end, as it delays Ctrl-C.
- `sys.orig_argv`, `sys.modules` and, on 3.10, the tracebacks of threads tell of us.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import atexit
import builtins
import importlib.util
import io
import json
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ._summary import summary
from .timeline import Timeline

if TYPE_CHECKING:
    from typing_extensions import Self


def run(
    program: str,
    arguments: list[str],
    *,
    module: bool = False,
    limit: int | None = None,
    picture: Path | None = None,
    json_to: Path | None = None,
) -> None:
    """Run `program`, the name of a module or the path of a file, to its end.

    The timeline goes to `picture`. The summary goes to stderr, or, if that is a path, as JSON to `json_to`; a path of
    ``-`` is stdout.
    """
    timeline = Timeline(limit=limit)
    ending = _Ending(timeline, picture, json_to)
    sys.argv[:] = [program, *arguments]
    timeline.__enter__()
    if module:
        sys.argv[0] = "-m"  # until it is found, as Python has it
    atexit.register(ending.sum_up)  # before any handler of the program: so it is called after them
    try:
        try:
            main, code = _module(program) if module else _file(program)
        except BaseException:
            atexit.unregister(ending.sum_up)  # nothing was run
            raise
        ending.watch_sigterm()
        sys.modules["__main__"] = main
        exec(code, vars(main))  # noqa: S102 - this is what it's for
    except BaseException:
        _hide_us(module)
        raise


def _file(path: str) -> tuple[ModuleType, CodeType]:
    """The ``__main__`` for a file, or for a folder or an archive that has a ``__main__.py``; and its code."""
    full = os.path.abspath(path)
    # sys.path[0] is where `-m` looked for us, unless the interpreter was told to look nowhere.
    no_path = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    importer = pkgutil.get_importer(full)
    if importer is not None:
        sys.path[: 0 if no_path else 1] = [full]
        spec = importer.find_spec("__main__", None)
        if spec is None:
            _refuse(f"can't find '__main__' module in {full!r}", 1)
        return _main_of(spec)
    if not no_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    try:
        with io.open_code(full) as file:
            source = file.read()
    except OSError as error:
        _refuse(f"can't open file {full!r}: [Errno {error.errno}] {error.strerror}", 2)
    loader: Any
    if path.endswith(".pyc"):
        loader = SourcelessFileLoader("__main__", full)
        code = loader.get_code("__main__")
    else:
        loader = SourceFileLoader("__main__", full)
        code = compile(source, full, "exec", dont_inherit=True)
    return _main(__loader__=loader, __file__=full), code


def _module(name: str) -> tuple[ModuleType, CodeType]:
    """The ``__main__`` for a module, or for a package that has a ``__main__``; and its code."""
    spec = _find(name)
    if spec is not None and spec.submodule_search_locations is not None:
        package, name = name, f"{name}.__main__"
        spec = _find(name)
        if spec is None:
            _refuse(f"No module named {name}; {package!r} is a package and cannot be directly executed", 1)
    if spec is None:
        _refuse(f"No module named {name}", 1)
    main, code = _main_of(spec)
    sys.argv[0] = str(spec.origin)
    return main, code


def _find(name: str) -> ModuleSpec | None:
    package = name.rpartition(".")[0]
    if package:
        try:
            __import__(package)
        except ImportError as error:
            # Whether that is not there is told below. What it imports itself, it may crash by.
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        _refuse(f"Error while finding module specification for {name!r} ({type(error).__name__}: {error})", 1)


def _main_of(spec: ModuleSpec) -> tuple[ModuleType, CodeType]:
    loader: Any = spec.loader
    code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
    if code is None:
        _refuse(f"No code object available for {spec.name}", 1)
    return _main(
        __spec__=spec, __loader__=loader, __package__=spec.parent, __file__=spec.origin, __cached__=spec.cached
    ), code


def _main(**attributes: object) -> ModuleType:
    main = ModuleType("__main__")
    # Whether there are these two depends on the version of Python.
    for name, value in {"__annotations__": {}, "__cached__": None, **attributes}.items():
        if name not in ("__annotations__", "__cached__") or name in vars(sys.modules["__main__"]):
            setattr(main, name, value)
    vars(main)["__builtins__"] = builtins
    return main


def _refuse(message: str, status: int) -> NoReturn:
    """There is nothing to run: end as Python does."""
    sys.stderr.write(f"{sys.executable}: {message}\n")
    raise SystemExit(status)


def _hide_us(module: bool) -> None:
    """Take our frames out of the traceback that the interpreter is going to print.

    It is complete only when it gets there, so this is for `sys.excepthook` to do. To print it here, and to exit, would
    be no substitute: the interpreter has to see a KeyboardInterrupt itself, so as to die of SIGINT in the end.
    """
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        sys.excepthook = hook
        entries = []
        while traceback is not None:
            entries.append(traceback)
            traceback = traceback.tb_next
        modules = [entry.tb_frame.f_globals.get("__name__") for entry in entries]
        program = len(modules) - modules[::-1].index(__name__) if __name__ in modules else 0
        # For a module, Python itself shows its two frames of runpy.
        before = entries[:2] if module and modules[:2] == ["runpy", "runpy"] else []
        shown = before + [
            entry for entry in entries[program:] if entry.tb_frame.f_globals.get("__name__") != "threadhooks.announce"
        ]
        first = None
        for entry in reversed(shown):
            entry.tb_next = first
            first = entry
        try:
            hook(kind, value.with_traceback(first), first)
        except BaseException as error:
            error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
            raise

    sys.excepthook = excepthook


class _Ending:
    """What is done when the program ends, whichever way that comes about."""

    def __init__(self, timeline: Timeline, picture: Path | None, json_to: Path | None) -> None:
        self.timeline = timeline
        self.picture = picture
        self.json_to = json_to
        self.pid = os.getpid()
        self.folder = os.getcwd()  # the program may go elsewhere

    def sum_up(self) -> None:
        """Tell what was seen, once."""
        if os.getpid() != self.pid:
            return
        self.pid = 0
        self.restore_sigterm()
        self.timeline.__exit__(None, None, None)
        data = self.timeline.as_dict()
        if self.json_to is None:
            _write(2, summary(data, self.folder, _width(2)))
        else:
            text = json.dumps(data, indent=2) + "\n"
            if self.json_to == Path("-"):
                _write(1, text)
            else:
                self._try("the summary", lambda: Path(self.folder, str(self.json_to)).write_text(text, "utf-8"))
        if self.picture is not None:
            self._try("the timeline", lambda: self.timeline.save(Path(self.folder, str(self.picture))))

    @staticmethod
    def _try(what: str, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:  # the program's exit status stays as it is
            _write(2, f"threadhooks: can't write {what}: {error}\n")

    def watch_sigterm(self) -> None:
        """Sum up before SIGTERM ends this process, unless the program has other plans, or makes some."""
        if os.name != "posix" or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        # Not signal.signal(), which would take our handler for SIG_DFL, as the program should.
        _signal.signal(signal.SIGTERM, _Default(self.sum_up))
        # A child that gets SIGTERM at once, from Process.terminate() for example, must die of it. But a starting child
        # drops signals that have arrived for a Python handler, so none may arrive before our handler is gone.
        masks: dict[int, set[int | signal.Signals]] = {}

        def before() -> None:
            masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

        def after() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(get_ident()))

        def after_in_child() -> None:
            self.restore_sigterm()
            after()

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)

    @staticmethod
    def restore_sigterm() -> None:
        """Make the default disposition what it seems to be."""
        if isinstance(_signal.getsignal(signal.SIGTERM), _Default):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Default(int):
    """A handler that is also the number 0, so that the module `signal` takes it for SIG_DFL, and says so if asked.

    A program may ask what the disposition is, and do otherwise if it is not the default, or put it back later.
    """

    def __new__(cls, sum_up: Callable[[], None]) -> Self:
        self = super().__new__(cls, 0)
        self.sum_up = sum_up
        return self

    sum_up: Callable[[], None]

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, signal.SIG_DFL)
        try:
            self.sum_up()
        finally:
            os.kill(os.getpid(), signum)


def _width(descriptor: int) -> int | None:
    """How many columns a terminal has; `None` for a file or a pipe."""
    try:
        return os.get_terminal_size(descriptor).columns or None
    except OSError:
        return None


def _write(descriptor: int, text: str) -> None:
    """Write to stdout or stderr, whatever the program has made of `sys.stdout` or is doing there just now."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the program may have closed it, or a signal have come within its write()
            stream.flush()
    stream = sys.__stdout__ if descriptor == 1 else sys.__stderr__
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with suppress(OSError), open(descriptor, "wb", buffering=0, closefd=False) as file:
        left = text.encode(encoding, "backslashreplace")
        while left:
            left = left[file.write(left) or 0 :]
