"""To send a signal."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time_ns
from typing import Any

import blinker

from threadhooks import Plugin, ThreadSignal, attach, thread_exited

from .measuring import Sample, Sides, Sizes, in_thread, row


def sending(signal: blinker.Signal, batch: int) -> Sample:
    """Measure `signal.send()`, with what `thread_exited` sends."""
    thread = threading.current_thread()
    info = in_thread(attach)

    def sample() -> float:
        send = signal.send
        again = itertools.repeat(None, batch)
        start = thread_time_ns()
        for _ in again:
            send(thread, info=info, exception=None)
        return (thread_time_ns() - start) / batch

    return sample


def receivers(number: int) -> list[Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        def receiver(thread: threading.Thread, **extra: object) -> None:
            pass

        return receiver

    return [make() for _ in range(number)]


@contextmanager
def connected(signal: blinker.Signal, number: int, *, weak: bool = True, **sender: object) -> Iterator[None]:
    hooks = receivers(number)
    for hook in hooks:
        signal.connect(hook, weak=weak, **sender)
    yield
    for hook in hooks:
        signal.disconnect(hook)


@row("send", "`thread_exited.send` with ten receivers", "blinker's send", 1.5, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    peer = blinker.Signal()
    with connected(thread_exited, 10), connected(peer, 10):
        yield Sides(sending(thread_exited, sizes.batch), sending(peer, sizes.batch))


@row("send-strong", "the same, held strongly", "blinker's send", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    peer = blinker.Signal()
    with connected(thread_exited, 10, weak=False), connected(peer, 10, weak=False):
        yield Sides(sending(thread_exited, sizes.batch), sending(peer, sizes.batch))


@row("send-one-thread", "the same, for one thread", "blinker's send", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    peer = blinker.Signal()
    thread = threading.current_thread()
    with connected(thread_exited, 10, sender=thread), connected(peer, 10, sender=thread):
        yield Sides(sending(thread_exited, sizes.batch), sending(peer, sizes.batch))


@row("send-plugin", "the same, of a plugin", "blinker's send", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    peer = blinker.Signal()
    with Plugin("benchmark") as plugin, connected(peer, 10):
        for receiver in receivers(10):
            plugin.thread_exited(receiver)
        yield Sides(sending(thread_exited, sizes.batch), sending(peer, sizes.batch))


@row("send-none", "`thread_exited.send` without receivers", "blinker's send", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(sending(thread_exited, sizes.batch), sending(blinker.Signal(), sizes.batch))


def disconnecting(make: Callable[[], blinker.Signal], number: int) -> Sample:
    """Measure `disconnect(receiver)`, for receivers of which each is connected to a thread of its own."""

    def sample() -> float:
        signal = make()
        threads = [threading.Thread() for _ in range(number)]
        hooks = receivers(number)
        for thread, hook in zip(threads, hooks, strict=True):
            signal.connect(hook, sender=thread)
        start = thread_time_ns()
        for hook in hooks:
            signal.disconnect(hook)
        return (thread_time_ns() - start) / number

    return sample


def new_signal() -> ThreadSignal:
    return ThreadSignal("benchmark", "Only to be measured.")


@row("disconnect", "`disconnect(receiver)` in a crowd of receivers, each of one thread", "in a hundredth of the crowd",
     2, ratio="cost")  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    many = max(100, sizes.attached)
    yield Sides(disconnecting(new_signal, many), disconnecting(new_signal, many // 100))


@row("disconnect-blinker", "the same, in a small crowd", "blinker's disconnect", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    number = max(1, sizes.batch)
    yield Sides(disconnecting(new_signal, number), disconnecting(blinker.Signal, number))
