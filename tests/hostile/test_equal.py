"""What its owner compares and hashes as he likes, or not at all: we tell it apart by identity."""

from __future__ import annotations

import threading

import pytest
from support import LONG, in_thread, run

from threadhooks import Plugin
from threadhooks.plugins import Pending


class Equal(threading.Thread):
    """It is the equal of all of its kind; later it can't be hashed or compared any more."""

    broken = False

    def __eq__(self, other: object) -> bool:
        if Equal.broken:
            raise RuntimeError("not comparable")
        return isinstance(other, Equal)

    def __hash__(self) -> int:
        if Equal.broken:
            raise RuntimeError("not hashable")
        return 1


def test_threads_that_are_equal_have_their_own_cleanups(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Plugin.pending` tells threads apart by identity, whatever they say of themselves."""
    ready, leave = threading.Barrier(3), threading.Event()

    def body(number: int) -> None:
        plugin.register(print, number, end="")
        plugin.unregister(len)
        ready.wait(LONG)
        assert leave.wait(LONG)
        plugin.unregister(print)

    with Plugin("any") as plugin:
        threads = [Equal(target=body, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        ready.wait(LONG)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(Equal, "broken", True)
                pending = plugin.pending()
                found = [pending[thread] for thread in threads]
                assert len(pending) == 2
                assert {id(thread) for thread in pending} == {id(thread) for thread in threads}
                assert pending == plugin.pending()
                assert pending != {}
        finally:
            leave.set()
            for thread in threads:
                thread.join(LONG)
        assert found == [[Pending(print, (number,), {"end": ""})] for number in range(2)]
        assert plugin.pending() == {}


class Twin(Plugin):
    """A plugin that is equal to all of its kind, and can't be hashed, as a `dataclass` would be."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Twin)

    __hash__ = None  # type: ignore[assignment]


def test_plugins_that_are_equal_keep_their_own_cleanups() -> None:
    """Each plugin finds and takes back its own alone."""
    ran: list[str] = []

    def body() -> None:
        one.register(ran.append, "one")
        other.register(ran.append, "other")
        one.close()

    with Twin("one") as one, Twin("other") as other:
        run(threading.Thread(target=body))
    assert ran == ["other"]


def test_a_name_that_is_everybody_s_equal() -> None:
    """The name of a plugin is what it reads, whatever a subclass of `str` makes of that."""

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("taken")

    with Plugin("taken"), Plugin(Name("free")) as plugin:
        assert plugin.name == "free"
        in_thread(lambda: plugin.register(len, ()))
    Plugin("free").close()
