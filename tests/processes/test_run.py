"""`python -m threadhooks run`: a program does what it does without it, and its threads are told of at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import LONG

PYTHON = [sys.executable, "-W", "error"]
RUN = [*PYTHON, "-m", "threadhooks", "run"]
posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


class Done(NamedTuple):
    out: str
    err: str
    code: int


def execute(command: list[str], cwd: Path, **kwargs: Any) -> Done:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, encoding="utf-8", timeout=LONG, env=environment, **kwargs
    )
    return Done(done.stdout, done.stderr, done.returncode)


def apart(err: str) -> tuple[str, str]:
    """What a program has said on stderr, and the summary that follows."""
    said, mark, rest = err.partition("threadhooks: ")
    return said, mark + rest


def without_runpy(err: str) -> str:
    """A traceback without the lines for what Python's `-m` does before a module runs, and where."""
    return re.sub(r'  File "[^"]*runpy(.py)?[>"].*\n(    .*\n)*', "", err)


Save = Callable[[str], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write the text of a program to a file in a folder of its own."""

    def save(source: str, name: str = "program.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source).lstrip("\n"), encoding="utf-8")
        return path

    return save


# The program does what it does without us

PROGRAMS = {
    "ends": "print('hello')",
    "arguments": "import sys; print(sys.argv)",
    "path": "import sys; print(sys.path)",
    "main": """
        import sys
        main = sys.modules["__main__"]
        print(sorted(name for name in globals()), __name__, __file__, __spec__, __package__, __doc__)
        print(vars(main) is globals(), type(__loader__).__name__, __builtins__)
        """,
    "docstring": "'''What it is.'''\nprint(__doc__)",
    "annotations": "number: int = 3\nprint(number, __annotations__)"
    if sys.version_info < (3, 14)
    else "number: int = 3",
    "flags": "import sys; print(sys.flags, sys.warnoptions)",
    "stdin": "print(input())",
    "exit": "import sys; sys.exit()",
    "exit with a number": "raise SystemExit(7)",
    "exit with a text": "import sys; sys.exit('it went wrong')",
    "exit with an object": "raise SystemExit([1, 2])",
    "exit in a function": "def f(): raise SystemExit(3)\nf()",
    "crash": "1 / 0",
    "crash in a function": "def f():\n    g()\ndef g():\n    raise ValueError('no such row')\nf()",
    "crash with a cause": """
        def f():
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise LookupError from error
        f()
        """,
    "crash in a thread": """
        import threading
        def work(): raise ValueError("no such row")
        thread = threading.Thread(target=work); thread.start(); thread.join()
        """,
    "start twice": "import threading; t = threading.Thread(); t.start(); t.join(); t.start()",
    "syntax": "print('never')\nif:",
    "own excepthook": "import sys; sys.excepthook = lambda *args: print(args[0], len(args)); 1 / 0",
    "excepthook that fails": """
        import sys
        def hook(*args): raise RuntimeError("the hook")
        sys.excepthook = hook
        1 / 0
        """,
    "excepthook, later": """
        import atexit, sys
        atexit.register(lambda: print(sys.excepthook is sys.__excepthook__))
        1 / 0
        """,
    "keyboard interrupt": "raise KeyboardInterrupt",
    "keyboard interrupt in a function": "def f(): raise KeyboardInterrupt('now')\nf()",
    "atexit": """
        import atexit, threading
        atexit.register(print, "at exit")
        def work():
            threading.main_thread().join()
            print("in a thread")
        threading.Thread(target=work).start()
        print("end")
        """,
    "atexit that fails": "import atexit; atexit.register(divmod, 1, 0)",
    "os._exit": "import os; print('at once', flush=True); os._exit(5)",
    "daemon": """
        import threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        print(len(threading.enumerate()), threading.current_thread().name)
        """,
    "pickle": "import pickle\nclass C: pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C)",
    "source": "import inspect\ndef f(): pass\nprint(inspect.getsource(f))",
    "globals at the end": """
        class Last:
            def __del__(self): print("gone", type(self).__name__)
        last = Last()
        """,
    "closes stderr": "import sys; sys.stderr.close()",
    "closes both": "import os; os.close(1); os.close(2)",
    "sigterm": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(30)",
    "sigterm in a wait": """
        import os, signal, threading
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        threading.Event().wait(30)
        """,
    "sigterm as it prints": """
        import os, signal, sys
        class Out:
            def write(self, text): os.kill(os.getpid(), signal.SIGTERM)
            def flush(self): raise OSError
        sys.stderr = sys.stdout = Out()
        print("x")
        import time; time.sleep(30)
        """,
    "asks for sigterm": """
        import signal
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.getsignal(signal.SIGTERM))
        print(signal.signal(signal.SIGTERM, signal.SIG_IGN), signal.getsignal(signal.SIGTERM))
        """,
    "handles sigterm": """
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *args: sys.exit("terminated"))
        os.kill(os.getpid(), signal.SIGTERM)
        import time; time.sleep(30)
        """,
    "handles sigterm for a time": """
        import os, signal, sys
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
        os.kill(os.getpid(), signal.SIGTERM)
        """,
    "another signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "ctrl-c": "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(30)",
    "ctrl-c as threads are joined": """
        import os, signal, sys, threading, time
        main = threading.get_ident()
        def work():
            while sys._current_frames()[main].f_code.co_name != "_shutdown":
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        threading.Thread(target=work).start()
        """,
    "fork": """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            print("child", flush=True)
            sys.exit(3)
        print("parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    "fork in a thread": """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        def work():
            child = os.fork()
            if child == 0:
                thread = threading.Thread(target=print, args=("child's thread",)); thread.start(); thread.join()
            else:
                print("parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        thread = threading.Thread(target=work); thread.start(); thread.join()
        """,
    "a fork is terminated": """
        import os, signal
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            print(signal.getsignal(signal.SIGTERM), flush=True)
            os.write(write, b"x")
            signal.pause()
        os.read(read, 1)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
    "multiprocessing, spawned": """
        import multiprocessing, sys
        def work(number): print("child", number, __name__, flush=True); sys.exit(4)
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=work, args=(7,))
            process.start(); process.join(); print(process.exitcode)
        """,
    "multiprocessing, forked": """
        import multiprocessing, sys, time
        def work(number): print("child", number, __name__, flush=True); sys.exit(4)
        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            process = context.Process(target=work, args=(7,))
            process.start(); process.join(); print(process.exitcode)
            process = context.Process(target=time.sleep, args=(30,))
            process.start(); process.terminate(); process.join(); print(process.exitcode)
        """,
}
if sys.version_info < (3, 11):  # it keeps tracebacks of its own for what is raised again: they show a line of ours
    for name in "crash in a thread", "excepthook that fails", "ctrl-c as threads are joined":
        del PROGRAMS[name]

# They never began, or ended in a way that nobody in the process is told of.
NOT_TOLD = ("syntax", "os._exit", "another signal", "closes both", "handles sigterm for a time")


@posix
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_unchanged(name: str, save: Save) -> None:
    """It prints the same on stdout and stderr as without us, and has the same exit status; arguments are its own."""
    path = save(PROGRAMS[name])
    arguments = [path.name, "--limit", "x", "--", "-m", "--help"]
    plain = execute([*PYTHON, *arguments], path.parent, input="a line\n")
    ours = execute([*RUN, *arguments], path.parent, input="a line\n")
    said, told = apart(ours.err)
    assert (ours.out, said, ours.code) == plain
    if name in NOT_TOLD:
        assert told == ""
    else:
        assert told.count("threadhooks: program.py --limit x -- -m --help, ") == 1


PACKAGE = {
    "package/__init__.py": "import sys; print(sys.argv[0])",
    "package/__main__.py": "from . import part; print(part.__name__)",
    "package/part.py": """
        import sys
        print(sorted(globals()), __name__, __file__, __spec__.name, __package__, sys.argv, sys.path[0])
        print(sys.modules["__main__"].__file__)
        """,
    "package/crash.py": "def f(): 1 / 0\nf()",
    "broken/__init__.py": "import nonsense",
    "broken/part.py": "",
    "empty/__init__.py": "",
    "alone.py": "import sys; print(sys.argv, __name__, __spec__.name); sys.exit(9)",
}


@pytest.mark.parametrize(
    "module", ["package", "package.part", "package.crash", "alone", "empty", "broken", "broken.part", "nonsense", "a.b"]
)
def test_a_module_runs_unchanged(module: str, save: Save) -> None:
    """So does what `-m` runs: a module, a package, one that isn't there, and one that can't be imported."""
    for name, source in PACKAGE.items():
        path = save(source, name)
    folder = path.parent
    plain = execute([*PYTHON, "-m", module, "-m", "x"], folder)
    ours = execute([*RUN, "-m", module, "-m", "x"], folder)
    said, told = apart(ours.err)
    assert (ours.out, without_runpy(said), ours.code) == (plain.out, without_runpy(plain.err), plain.code)
    assert bool(told) == (module.partition(".")[0] in ("package", "alone"))


def test_a_folder_or_an_archive_runs_unchanged(save: Save) -> None:
    """A folder and an archive with a ``__main__.py`` run as with Python; without one, they are refused as by Python."""
    path = save("import sys; print(sys.argv, sys.path[0], __file__, __spec__.name, __package__)", "folder/__main__.py")
    folder = path.parents[1]
    (folder / "void").mkdir()
    execute([sys.executable, "-m", "zipfile", "-c", "archive.zip", "folder/__main__.py"], folder)
    execute([sys.executable, "-m", "zipapp", "folder", "-o", "app.pyz"], folder)
    for target in ("folder", "app.pyz", "void", "archive.zip", "nowhere.py"):
        plain = execute([*PYTHON, target, "x"], folder)
        ours = execute([*RUN, target, "x"], folder)
        assert (ours.out, apart(ours.err)[0], ours.code) == plain


def test_compiled_code_runs_unchanged(save: Save) -> None:
    """A ``.pyc`` file may be run."""
    path = save("print(__file__, type(__loader__).__name__)")
    folder = path.parent
    execute([sys.executable, "-c", f"import py_compile; py_compile.compile({path.name!r}, 'other.pyc')"], folder)
    plain = execute([*PYTHON, "other.pyc"], folder)
    assert plain.code == 0
    assert execute([*RUN, "other.pyc"], folder)[::2] == plain[::2]


@pytest.mark.parametrize("option", ["-I", "-P", "-B", "-O"])
def test_the_interpreters_options(option: str, save: Save) -> None:
    """`sys.path` and the rest are what the options of the interpreter make of them."""
    if option == "-P" and sys.version_info < (3, 11):
        pytest.skip("new in 3.11")
    path = save("import sys; print(sys.path, sys.flags, __debug__)", "folder/program.py")
    plain = execute([*PYTHON, option, "folder/program.py"], path.parents[1])
    ours = execute([*PYTHON, option, "-m", "threadhooks", "run", "folder/program.py"], path.parents[1])
    assert (ours.out, ours.code) == (plain.out, plain.code)


# What is told


MIXED = """
    import threading, time
    from concurrent.futures import ThreadPoolExecutor
    import threadhooks

    audit = threadhooks.Plugin("audit")
    threading.excepthook = lambda args: None

    def flush():
        raise OSError("the log is full")

    def poll():
        everybody.wait(), never.wait()  # on one line, so that it is the one that they are at

    def write():
        audit.register(flush)

    def lose():
        raise ValueError("no such row")

    never = threading.Event()
    everybody = threading.Barrier(4)
    threading.Thread(target=poll, name="poller", daemon=True).start()
    for name in "pair-1", "pair-2":
        threading.Thread(target=poll, name=name, daemon=True).start()
    everybody.wait()
    for target in write, lose:
        thread = threading.Thread(target=target, name=target.__name__)
        thread.start()
        thread.join()
"""


def test_the_summary(save: Save) -> None:
    """It counts, names the longest, and says of each crash, leak and failed hook where it comes from."""
    path = save(MIXED)
    done = execute([*RUN, path.name], path.parent)
    duration = re.compile(r"[\d.]+ m?s$", re.MULTILINE)
    assert duration.sub("TIME", done.err) == textwrap.dedent(
        """\
        threadhooks: program.py, TIME
          started           5
          ended             2
          crashed           1  of these
          still running     3
          most at one time  4  besides the main thread
          longest           poller, TIME
          crashed           lose: ValueError: no such row
                              raised at   program.py:18 in lose
          never ended       poller (daemon)
                              started at  program.py:22 in <module>
                              is now at   program.py:12 in poll
          never ended       pair-1 (daemon) and 1 more like it
                              started at  program.py:24 in <module>
                              is now at   program.py:12 in poll
          hook failed       __main__.flush of plugin 'audit', in write: OSError: the log is full
        """
    )


def test_json(save: Save) -> None:
    """`--json FILE` writes the same, and all threads, as JSON; to stderr then goes nothing."""
    path = save("import os; os.chdir('/')" + textwrap.dedent(MIXED))
    done = execute([*RUN, "--json", "told.json", path.name], path.parent)
    assert done == ("", "", 0)
    told = json.loads((path.parent / "told.json").read_text(encoding="utf-8"))
    assert told["format"] == "threadhooks-timeline"
    assert told["program"] == "program.py"
    assert told["summary"] == {
        "started": 5, "older": 0, "ended": 2, "crashed": 1, "running": 3, "most_at_once": 4, "longest": 1,
        "hooks_failed": 1,
    }  # fmt: skip
    assert [thread["name"] for thread in told["threads"]] == [
        "MainThread", "poller", "pair-1", "pair-2", "write", "lose",
    ]  # fmt: skip


def test_json_on_stdout(save: Save) -> None:
    """`--json -` writes it to stdout, after what the program has written there."""
    path = save("print('first', end='')")
    done = execute([*RUN, "--json", "-", path.name], path.parent)
    assert (done.err, done.code) == ("", 0)
    assert done.out.startswith("first{")
    assert json.loads(done.out.removeprefix("first"))["summary"]["started"] == 0


def test_json_of_one_that_is_terminated(save: Save) -> None:
    """It is written before SIGTERM ends the process."""
    path = save("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    done = execute([*RUN, "--json", "-", path.name], path.parent)
    assert done.code == -15
    assert json.loads(done.out)["program"] == "program.py"


def test_without_threads(save: Save) -> None:
    """A program without threads is told of in two lines."""
    path = save("")
    assert len(execute([*RUN, path.name], path.parent).err.splitlines()) == 2


def test_a_limit_is_told(save: Save) -> None:
    """What `--limit` has left out is counted, and what it would have said is in the counts."""
    path = save(
        """
        import threading
        threading.excepthook = lambda args: None
        def crash(): 1 / 0
        for number in range(20):
            thread = threading.Thread(target=crash); thread.start(); thread.join()
        """
    )
    done = execute([*RUN, "--limit", "5", path.name], path.parent)
    lines = dict(re.findall(r"^  (started|ended|crashed|most at one time) +(\S+)(?!.*:)", done.err, re.MULTILINE))
    assert lines == {"started": "20", "ended": "20", "crashed": "20", "most at one time": "1"}
    assert "15 left out" in done.err
    assert done.err.count("ZeroDivisionError") == 1


def test_many_of_a_kind_are_cut(save: Save) -> None:
    """Of what happened often, ten lines are shown, and the rest is counted."""
    path = save(
        """
        import threading
        threading.excepthook = lambda args: None
        def crash(number): raise ValueError(number)
        for number in range(25):
            thread = threading.Thread(target=crash, args=(number,)); thread.start(); thread.join()
        """
    )
    done = execute([*RUN, path.name], path.parent)
    assert done.err.count("ValueError") == 10
    assert "... and 15 more" in done.err


@pytest.mark.parametrize("suffix", [".html", ".svg", ".json"])
def test_a_timeline_is_written(suffix: str, save: Save) -> None:
    """`--timeline FILE` writes it where that was when the program began, also if SIGTERM ends it."""
    pytest.importorskip("threadhooks._picture")
    pytest.importorskip("threadhooks._trace")
    path = save("import os, signal; os.chdir('/'); os.kill(os.getpid(), signal.SIGTERM)")
    done = execute([*RUN, "--timeline", f"seen{suffix}", path.name], path.parent)
    assert done.code == -15
    assert "MainThread" in (path.parent / f"seen{suffix}").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written(save: Save) -> None:
    """It is said, and changes nothing of the exit status."""
    path = save("import os, sys; os.rmdir('folder'); sys.exit(3)")
    (path.parent / "folder").mkdir()
    done = execute([*RUN, "--json", "folder/told.json", path.name], path.parent)
    assert done.code == 3
    assert done.err.startswith("threadhooks: can't write the summary: ")
    assert len(done.err.splitlines()) == 1


WRONG = {
    "no program": (["run"], "program"),
    "another suffix": (["run", "--timeline", "x.png", "program.py"], ".html, .svg or .json"),
    "no folder": (["run", "--timeline", "nowhere/x.svg", "program.py"], "no folder 'nowhere'"),
    "no number": (["run", "--limit", "many", "program.py"], "--limit"),
    "no thread": (["run", "--limit", "0", "program.py"], "--limit"),
    "unknown option": (["run", "--nonsense", "program.py"], "--nonsense"),
    "unknown command": (["nonsense"], "nonsense"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_line(case: str, tmp_path: Path) -> None:
    """It is refused with exit status 2, before anything is run, and says what is wrong on stderr."""
    arguments, why = WRONG[case]
    (tmp_path / "program.py").write_text("print('run')", encoding="utf-8")
    done = execute([*PYTHON, "-m", "threadhooks", *arguments], tmp_path)
    assert (done.out, done.code) == ("", 2)
    assert why in done.err.splitlines()[-1]


def test_help(tmp_path: Path) -> None:
    """Without arguments it says what there is; `run --help` says how a program and a module are run."""
    done = execute([*PYTHON, "-m", "threadhooks"], tmp_path)
    assert (done.err, done.code) == ("", 0)
    assert "run " in done.out
    assert "demo " in done.out
    done = execute([*PYTHON, "-m", "threadhooks", "run", "--help"], tmp_path)
    assert (done.err, done.code) == ("", 0)
    for text in ("[options] script.py", "-m module", "--timeline FILE", "--json FILE", "--limit N"):
        assert text in done.out
