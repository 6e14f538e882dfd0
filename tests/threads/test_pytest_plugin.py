"""The pytest plugin: which threads are leaks, which test is blamed, and what it is told."""

from __future__ import annotations

from suites import Run, blamed

pytest_plugins = ["pytester"]


# What is told


def test_a_leak_is_told_with_its_lines(run: Run) -> None:
    """A thread is told by its name, its target, the line that started it and the line it is at; alike ones, once."""
    result = run("""
        import queue
        jobs = queue.Queue()

        def work():
            jobs.get()  # here

        def test_it():
            for number in range(7):
                worker = threading.Thread(target=work, name=f"worker-{number}", daemon=True)
                worker.start()  # there
            timer = threading.Timer(99, work)
            timer.name = "timer"
            timer.daemon = True
            timer.start()
    """)
    result.stdout.fnmatch_lines(
        [
            "* ERROR at teardown of test_it *",
            "left 8 threads behind: worker-0, worker-1, worker-2, worker-3, worker-4 and 3 more",
            "",
            "  worker-0, worker-1, worker-2, worker-3, worker-4 and 2 more (daemons)",
            "    target   test_it.work",
            "    started  test_it.py:22  worker.start()  # there",
            "    now at   test_it.py:17  jobs.get()  # here",
            "",
            "  timer (daemon)",
            "    target   test_it.work",
            "    started  test_it.py:26 *  timer.start()",
            "    now at   threading.py:*",
            "",
            'Still alive 0.3 s after the teardown. If that is meant: @pytest.mark.thread_leaks(allow=["]name["])',
            "ERROR test_it.py::test_it - Failed: left 8 threads behind: worker-0, *",
        ],
        consecutive=False,
    )
    result.assert_outcomes(passed=1, errors=1)


def test_the_line_that_started_a_worker_of_a_pool(run: Run) -> None:
    """It is the one that gave the pool its work, not one of `concurrent.futures` or `asyncio`."""
    result = run("""
        import asyncio
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2, "pool")
        other = ThreadPoolExecutor(2, "other")

        async def use():
            await asyncio.get_running_loop().run_in_executor(other, str)

        def test_it():
            pool.submit(str).result()
            asyncio.run(use())
    """)
    result.stdout.fnmatch_lines(
        [
            "    started  test_it.py:22 * pool.submit(str).result()",
            "    now at   concurrent/futures/thread.py:* work_item = work_queue.get(*",
            "    started  test_it.py:19 * await asyncio.get_running_loop().run_in_executor(other, str)",
        ]
    )


# Which threads are leaks, and whose


def test_leaks(run: Run) -> None:
    """A test is blamed for what it, its fixtures or a thread of it has started, and for nothing that ends in time."""
    result = run("""
        import _thread, functools, time, unittest
        from concurrent.futures import ThreadPoolExecutor
        from unittest import mock

        plugin = threadhooks.Plugin("test")

        def test_that_joins():
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(str, range(100)))

        def test_that_does_not_join():
            for _ in range(20):
                threading.Thread(target=str).start()

        @pytest.mark.parametrize("number", [1, 2])
        def test_leaks(number):
            if number == 2:
                leave()

        def test_leaks_a_cleanup():
            begun = threading.Event()
            def late():
                begun.set()
                for_ever.wait()
            threading.Thread(target=plugin.register, args=(late,), name="cleanup", daemon=True).start()
            assert begun.wait(30)

        def test_leaks_through_another_thread():
            thread = threading.Thread(target=leave)
            thread.start()
            thread.join()

        def test_leaks_as_its_time_runs():  # the inner one is started when the test has ended
            teardown_is_near = threading.Timer(0.1, leave)
            teardown_is_near.start()

        @pytest.fixture
        def stops():
            stop = threading.Event()
            thread = threading.Thread(target=stop.wait)
            thread.start()
            yield stop
            stop.set()

        @pytest.fixture
        def does_not_stop():
            return leave()

        def test_of_a_fixture(stops):
            threading.Thread(target=stops.wait).start()

        def test_leaks_by_a_fixture(does_not_stop):
            pass

        def test_leaks_foreign():
            begun = threading.Event()
            def body():
                threading.current_thread()
                begun.set()
                for_ever.wait()
            _thread.start_new_thread(body, ())
            begun.wait()

        def test_foreign():  # some versions of Python list it after its end
            lock = _thread.allocate_lock()
            lock.acquire()
            _thread.start_new_thread(lambda: (threading.current_thread(), lock.release()), ())
            lock.acquire()

        def test_leaks_by_a_foreign_thread():
            begun = threading.Event()
            _thread.start_new_thread(lambda: (leave(), begun.set()), ())
            begun.wait()

        def test_leaks_by_another_start():
            start = threading.Thread.start
            while hasattr(start, "__wrapped__"):
                start = start.__wrapped__
            with mock.patch.object(threading.Thread, "start", start):
                leave()

        class Stubborn(threading.Thread):
            def join(self, timeout=None):
                for_ever.set()
            def is_alive(self):
                return False
            @property
            def name(self):
                raise LookupError
            @name.setter
            def name(self, name):
                pass

        def test_leaks_by_a_subclass():
            Stubborn(target=for_ever.wait, daemon=True).start()

        class TestUnittest(unittest.TestCase):
            def setUp(self):
                self.stop = threading.Event()

            def tearDown(self):
                self.stop.set()

            def test_good(self):
                threading.Thread(target=self.stop.wait).start()

            def test_leaks(self):
                leave()

        @pytest.mark.xfail(strict=True)
        def test_expected():
            leave()
            assert False

        def test_innocent():
            assert not for_ever.is_set()
    """)
    assert blamed(result) == [
        "TestUnittest::test_leaks",
        "test_leaks[2]",
        "test_leaks_a_cleanup",
        "test_leaks_as_its_time_runs",
        "test_leaks_by_a_fixture",
        "test_leaks_by_a_foreign_thread",
        "test_leaks_by_a_subclass",
        "test_leaks_by_another_start",
        "test_leaks_foreign",
        "test_leaks_through_another_thread",
    ]
    result.stdout.fnmatch_lines(["ERROR *::test_leaks_as_its_time_runs - Failed: left a thread behind: left"])


def test_fixtures_of_wider_scope(run: Run) -> None:
    """What they start may stay, and so may what those threads start; a test is blamed only for its own."""
    result = run("""
        import _thread, unittest

        def serve(requests, served):
            while True:
                requests.get()
                leave("started by the server")
                served.set()

        class Server:
            def __init__(self):
                import queue
                self.requests, self.served = queue.Queue(), threading.Event()
                threading.Thread(target=serve, args=(self.requests, self.served), daemon=True).start()

            def request(self):
                self.requests.put(None)
                assert self.served.wait(30)

        at_import = Server()

        def test_older_than_all_tests():
            at_import.request()

        @pytest.fixture(scope="session")
        def session_server():
            return Server()

        @pytest.fixture(scope="module")
        def module_server(session_server):
            return Server()

        @pytest.fixture(scope="class")
        def class_server():
            yield Server()

        @pytest.fixture(scope="package")
        def foreign():
            begun = threading.Event()
            _thread.start_new_thread(lambda: (threading.current_thread(), begun.set(), for_ever.wait()), ())
            begun.wait()

        def setup_module():
            leave("setup_module")

        def test_session(session_server):
            session_server.request()

        def test_asked_for_late(request, foreign):
            request.getfixturevalue("module_server").request()

        class TestClass:
            def test_class(self, class_server, module_server):
                class_server.request()

            def test_leaks(self, class_server):
                leave()

        class TestUnittest(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                leave("setUpClass")

            def test_it(self):
                pass
    """)
    assert blamed(result) == ["TestClass::test_leaks"]
    result.assert_outcomes(passed=6, errors=1)


def test_one_blame_for_one_thread(run: Run) -> None:
    """Tests that run while a thread of another is still there are not blamed, not even for what that one starts."""
    result = run("""
        go = threading.Event()
        started = threading.Event()

        def go_on():
            go.wait()
            leave("late")
            started.set()

        def test_leaks():
            threading.Thread(target=go_on, name="first", daemon=True).start()

        def test_innocent():
            go.set()
            assert started.wait(30)
    """)
    assert blamed(result) == ["test_leaks"]
    assert "late" not in result.stdout.str()


def test_all_threads_have_one_time_to_end(run: Run) -> None:
    """The grace period is that of the test, however many threads it leaves; and it ends though the clock stands."""
    result = run(
        """
        import time

        def test_leaks():
            for _ in range(50):
                leave()

        def test_leaks_under_a_stopped_clock(monkeypatch):
            now = time.monotonic()
            for name in ("time", "monotonic", "perf_counter"):
                setattr(time, name, lambda: now)
            leave()
        """,
        "--thread-leaks=error",
        "--durations=0",
    )
    assert blamed(result) == ["test_leaks", "test_leaks_under_a_stopped_clock"]
    (seconds,) = (
        float(line.split("s ")[0]) for line in result.outlines if line.endswith("teardown test_it.py::test_leaks")
    )
    assert 0.3 <= seconds < 50 * 0.3


def test_tools_may_keep_their_thread(run: Run) -> None:
    """The one thread that a tool starts for the whole process, at its first use, is nobody's leak; others' are."""
    result = run("""
        class Monitor(threading.Thread):
            __module__ = "tqdm._monitor"

        def test_tool():
            Monitor(target=for_ever.wait, daemon=True).start()

        def test_leaks():
            type("Other", (threading.Thread,), {"__module__": "tqdmlike"})(target=for_ever.wait, daemon=True).start()
    """)
    assert blamed(result) == ["test_leaks"]


def test_nothing_is_kept_alive(run: Run) -> None:
    """Neither threads that have ended, nor what their frames held, nor those that were told as leaks."""
    result = run("""
        import gc, weakref
        gc.disable()
        stop = threading.Event()
        kept = []

        class Thing:
            pass

        def body(thing):
            stop.wait()

        def test_leaks():
            thing = Thing()
            thread = threading.Thread(target=body, args=(thing,), daemon=True)
            thread.start()
            kept.extend([weakref.ref(thing), weakref.ref(thread)])

        def test_end():
            thread = kept[1]()
            stop.set()
            thread.join()
            del thread
            assert [ref() for ref in kept] == [None, None]
    """)
    assert blamed(result) == ["test_leaks"]
    result.assert_outcomes(passed=2, errors=1)


# Beside what else pytest does


def test_a_teardown_that_fails_as_well(run: Run) -> None:
    """Its own error is told, and the leak in a section below it."""
    result = run("""
        def test_it(request):
            leave()
            request.addfinalizer(lambda: 1 / 0)

        def test_failing():
            leave()
            assert False
    """)
    result.assert_outcomes(passed=1, failed=1, errors=2)
    result.stdout.fnmatch_lines(
        ["E   ZeroDivisionError*", "* Captured threads teardown *", "left a thread behind: left", "*ZeroDivisionError*"]
    )


def test_the_first_leak_may_be_the_last(run: Run) -> None:
    """With ``-x``, a leak ends the run."""
    result = run("def test_leaks(): leave()\ndef test_another(): leave()", "--thread-leaks=error", "-x")
    result.assert_outcomes(passed=1, errors=1)


def test_in_the_debugger(run: Run) -> None:
    """With ``--pdb``, a leak opens the debugger, with the message, while the thread is there."""
    result = run(
        """
        class Debugger:
            def __init__(self, *args, **kwargs):
                pass
            def reset(self):
                pass
            def interaction(self, frame, trace):
                print("open:", [thread.name for thread in threading.enumerate()])
            def set_continue(self):
                pass
            quitting = False

        def test_leaks():
            leave()
        """,
        "--thread-leaks=error",
        "--pdb",
        "--pdbcls=test_it:Debugger",
    )
    result.stdout.fnmatch_lines(["left a thread behind: left", "open: [[]'MainThread', 'left']"])


# Hooks

HOOKS = """
    plugin = threadhooks.Plugin("suspect")

    def hook():
        raise LookupError("the hook's own error")

    def end(hook):
        thread = threading.Thread(target=plugin.register, args=(hook,), name="worker")
        thread.start()
        thread.join()

    def test_hook_fails():
        end(hook)

    def test_receiver_fails():
        def receiver(thread, **extra):
            raise LookupError
        with threadhooks.thread_exited.connected_to(receiver):
            end(str)

    @pytest.fixture(scope="module")
    def ends():
        end(hook)

    def test_hook_fails_in_a_fixture(ends):
        pass

    def test_quiet_one():
        end(exit)

    def test_looked_at(monkeypatch):
        seen = []
        monkeypatch.setattr(threading, "excepthook", seen.append)
        end(hook)
        assert len(seen) == 1

    @pytest.fixture
    def seen(monkeypatch):
        seen = []
        monkeypatch.setattr(threading, "excepthook", seen.append)
        return seen

    def test_looked_at_by_a_fixture(seen):
        if pytest.version_tuple >= (8, 4):  # before, pytest replaces it
            end(hook)
            assert len(seen) == 1

    def test_innocent():
        pass
"""


def test_a_failing_hook(run: Run) -> None:
    """A hook that fails during a test fails that test, once, with the hook's name and traceback."""
    result = run(HOOKS)
    result.assert_outcomes(passed=7, errors=3)
    assert blamed(result) == ["test_hook_fails", "test_hook_fails_in_a_fixture", "test_receiver_fails"]
    result.stdout.fnmatch_lines(
        [
            "* ERROR at teardown of test_hook_fails *",
            "a hook failed: LookupError: the hook's own error",
            "  in worker",
            "  Traceback (most recent call last):",
            '    File "*test_it.py", line 16, in hook',
            "  LookupError: the hook's own error",
            "  raised by test_it.hook of plugin 'suspect', a hook of threadhooks",
        ]
    )


def test_a_failing_hook_where_leaks_are_warnings(run: Run) -> None:
    """Under ``warn`` it is a warning; where nothing was asked for it is pytest's own warning, as before."""
    result = run(HOOKS, "--thread-leaks=warn", "-W", "default")
    assert result.parseoutcomes()["passed"] == 7
    result.stdout.fnmatch_lines(["*ThreadLeakWarning: a hook failed: LookupError: the hook's own error"])
    result = run(HOOKS, "-q", "-W", "default")
    result.stdout.fnmatch_lines(["*PytestUnhandledThreadExceptionWarning: Exception in thread worker"])


def test_what_else_a_thread_raises(run: Run) -> None:
    """The exception of a thread's own body is pytest's business, as before."""
    result = run(
        """
        def test_it():
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        """
    )
    assert "a hook failed" not in result.stdout.str()
    assert "PytestUnhandledThreadExceptionWarning" in result.stdout.str()
