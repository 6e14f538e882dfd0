"""sentry-sdk and opentelemetry-instrumentation-threading, which wrap what we wrap: in interpreters of their own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sentry_sdk")
pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.instrumentation.threading")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

EXAMPLES = Path(__file__).parent / "examples"
SIGNALS = ["thread_started", "thread_exiting", "thread_exited"]
ORDERS = [
    order
    for others in (["sentry"], ["otel"], ["sentry", "otel"])
    for order in itertools.permutations(["ours", *others])
]

orders = pytest.mark.parametrize("order", ORDERS, ids=" ".join)

# What both kinds of programs begin with: transports that record.
RECORDING = """
import functools, itertools, json, os, sys, threading
import sentry_sdk, sentry_sdk.transport
from concurrent.futures import ThreadPoolExecutor
from opentelemetry import trace
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.integrations.threading import ThreadingIntegration
import threadhooks

class Recording(sentry_sdk.transport.Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            events.append(event)

events, signals = [], []
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
init = functools.partial(sentry_sdk.init, "https://key@localhost/1", transport=Recording())
plugin = threadhooks.Plugin("test")
for signal in ("thread_started", "thread_exiting", "thread_exited"):
    getattr(plugin, signal)(lambda thread, signal=signal, **extra: signals.append(signal))
"""

# Install the tools in each order, and uninstall them in each order. When all are there, and after each that goes, look
# what there is in threads of each kind. The same without us. A fork for each, since what sentry-sdk has
# wrapped stays so.
IN_EACH_ORDER = (
    RECORDING
    + """
def sentry():
    init(default_integrations=False, integrations=[ThreadingIntegration()], include_local_variables=False,
         include_source_context=False)

install = {"ours": threadhooks.install, "otel": ThreadingInstrumentor().instrument, "sentry": sentry}
uninstall = {
    "ours": threadhooks.uninstall,
    "otel": ThreadingInstrumentor().uninstrument,
    "sentry": functools.partial(sentry_sdk.init, default_integrations=False),  # no client, so it hands on no scope
}

class Subclass(threading.Thread):
    def __init__(self, target):
        super().__init__()
        self.target = target

    def start(self):
        super().start()

    def run(self):
        self.target()

def join(thread):
    thread.start()
    thread.join()

def executor(body):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(body).exception()

kinds = {
    "Thread": lambda body: join(threading.Thread(target=body)),
    "Subclass": lambda body: join(Subclass(body)),
    "Timer": lambda body: join(threading.Timer(0, body)),
    "ThreadPoolExecutor": executor,
}

def look(kind):
    def body():
        inside.append(trace.get_current_span() is span)
        sentry_sdk.capture_message("inside")
        raise ValueError("crash")

    inside = []
    events.clear()
    signals.clear()
    with trace.get_tracer("test").start_as_current_span("outside") as span, sentry_sdk.new_scope() as scope:
        scope.set_tag("set", "outside")
        kinds[kind](body)
    said = [event.get("message") or event["exception"]["values"][0]["value"] for event in events]
    return {"signals": list(signals), "context": inside, "said": said,
            "scope": [event.get("tags") == {"set": "outside"} for event in events]}

threading.excepthook = lambda args: None
for order in json.loads(sys.argv[1]):
    for undo in itertools.permutations(order):
        if not os.fork():
            for tool in order:
                install[tool]()
            seen = {kind: [look(kind)] for kind in kinds}
            for tool in undo:
                uninstall[tool]()
                for kind in kinds:
                    seen[kind].append(look(kind))
            print(json.dumps([order, undo, seen]))
            os._exit(0)
        os.wait()
"""
)

Order = tuple[str, ...]
Outcomes = dict[tuple[Order, Order], dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """What was seen in each kind of thread, when all was installed and after each that went: by the two orders."""
    alone = {tuple(tool for tool in order if tool != "ours") for order in ORDERS}
    command = [sys.executable, "-W", "error", "-u", "-c", IN_EACH_ORDER, json.dumps([*ORDERS, *alone])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.stderr, done.returncode) == ("", 0)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {(tuple(order), tuple(undo)): seen for order, undo, seen in lines}


@orders
@pytest.mark.parametrize("kind", ["Thread", "Subclass", "Timer", "ThreadPoolExecutor"])
def test_in_each_order(outcomes: Outcomes, order: Order, kind: str) -> None:
    """In whichever order the tools come and go, our signals come once, and the others do what they do without us.

    (The two others, together, lose OpenTelemetry's context in some orders. With us they lose no more.)
    """
    for undo in itertools.permutations(order):
        with_us = outcomes[order, undo][kind]
        others = [tuple(tool for tool in tools if tool != "ours") for tools in (order, undo)]
        without = iter(outcomes[others[0], others[1]][kind])
        bare = next(without)
        for gone, ours in zip((None, *undo), with_us, strict=True):
            if gone not in (None, "ours"):
                bare = next(without)
            left = set(undo[undo.index(gone) + 1 :] if gone else undo)
            where = (undo, gone, bare, ours)
            assert ours["signals"] == (SIGNALS if "ours" in left else []), where
            assert ours["said"] == bare["said"], where
            for key in ("context", "scope"):
                assert len(ours[key]) == len(bare[key]), where
                assert all(mine or not its for mine, its in zip(ours[key], bare[key], strict=True)), where


@pytest.mark.parametrize("order", [order for order in ORDERS if len(order) == 2], ids=" ".join)
def test_there_is_something_to_lose(outcomes: Outcomes, order: Order) -> None:
    """With one of them, before `install` or after it, its scope or context reaches the thread; it hears of a crash."""
    both_installed = outcomes[order, order]["Thread"][0]
    assert both_installed["context"] == ["otel" in order]
    assert both_installed["scope"] == ([True, True] if "sentry" in order else [])
    assert both_installed["said"] == (["inside", "crash"] if "sentry" in order else [])


# run() of a thread that has ended, called from the main thread; and a test double that only calls it
RUN_AGAIN = (
    RECORDING
    + """
from unittest import mock

install = {
    "ours": threadhooks.install,
    "otel": ThreadingInstrumentor().instrument,
    "sentry": lambda: init(default_integrations=False, integrations=[ThreadingIntegration()]),
}
for tool in sys.argv[1:]:
    install[tool]()
ran = []

class Body(threading.Thread):
    def run(self):
        ran.append((self.name, threading.current_thread().name))

plugin.register_early(ran.append, "early cleanup of the main thread")
thread = Body(name="body")
thread.start()
thread.join()
thread.run()
with mock.patch.object(threading.Thread, "start", lambda self: self.run()):
    threadhooks.install()
    Body(name="double").start()
print(json.dumps([ran, signals]))
plugin.close()
"""
)


@orders
def test_run_is_called_again(program: Callable[..., Any], order: Order) -> None:
    """Beside the tools, whoever calls `run()` of a thread runs its body there, and announces nobody.

    Where sentry-sdk comes after us, it passes the thread that calls to the method, as it does without us.
    """
    out, err, code = program(RUN_AGAIN, *order)
    assert (err, code) == ("", 0)
    ran, signals = json.loads(out)
    assert signals == SIGNALS
    misled = "sentry" in order and order.index("sentry") > order.index("ours")
    assert ran == [["body", "body"], ["MainThread" if misled else "body", "MainThread"], ["double", "MainThread"]]


# What the page shows
EXAMPLE = (
    RECORDING
    + """
sentry_sdk.init = functools.partial(init, auto_enabling_integrations=False)
sys.path.insert(0, sys.argv[1])
import tracing

def fails(what):
    raise LookupError(what)

def tagged(event):
    error = event["exception"]["values"][-1]
    return [error["value"], event.get("tags")]

@plugin.thread_started
@plugin.thread_exiting
def receiver(thread, **extra):
    fails("receiver")

def work():
    assert tracing.thread_span() is trace.get_current_span()
    plugin.register_early(fails, "early")
    plugin.register(fails, "late")
    plugin.register(sys.exit)
    raise ValueError("run()")

thread = threading.Thread(target=work, name="worker")
with tracing.tracer.start_as_current_span("outside") as outside, sentry_sdk.new_scope() as scope:
    scope.set_tag("set", "outside")
    thread.start()
    thread.join()
outside = outside.get_span_context()
[inner] = [span for span in spans.get_finished_spans() if span.name == "worker"]
parent = inner.parent == outside
plugin.close()

found = []
with threadhooks.Plugin("finds") as finds, tracing.tracer.start_as_current_span("outside") as outside:
    finds.thread_started(lambda thread, **extra: found.append(trace.get_current_span() is outside))
    finds.thread_exiting(lambda thread, **extra: found.append(trace.get_current_span() is outside))
    thread = threading.Thread()
    thread.start()
    thread.join()

with ThreadPoolExecutor(1, "pool") as pool:
    for name in "first", "second":
        with tracing.tracer.start_as_current_span(name):
            pool.submit(tracing.thread_span).result()
parents = {span.get_span_context().span_id: span.name for span in spans.get_finished_spans()}
print(json.dumps({
    "context in receivers": found,
    "spans of the pool": [parents[span.parent.span_id] for span in spans.get_finished_spans() if span.name == "pool_0"],
    "signals": signals,
    "reported": [tagged(event) for event in events],
    "parent": parent,
    "status": inner.status.status_code.name,
    "recorded": [event.attributes["exception.type"] for event in inner.events],
}))
"""
)


def test_example(program: Callable[..., Any]) -> None:
    """The page's thread has its span, which ends with it; its crash, and its failing hooks, are reported once each.

    Those of the start and of the early moment are reported with the scope of the thread, late ones without. The worker
    of a pool has one span, whose parent is that of the first task.
    """
    out, err, code = program(EXAMPLE, str(EXAMPLES))
    assert code == 0
    result = json.loads(out)
    scope = {"set": "outside"}
    by = "raised by __main__.{} of plugin 'test', a hook of threadhooks"
    assert result.pop("reported") == [
        [f"receiver\n{by.format('receiver')}", scope],
        [f"early\n{by.format('fails')}", scope],
        [f"receiver\n{by.format('receiver')}", scope],
        ["run()", scope],
        [f"late\n{by.format('fails')}", None],
    ]
    inherited = bool(getattr(sys.flags, "thread_inherit_context", False))  # by threads, where that is the default
    assert result == {
        "context in receivers": [inherited, inherited],
        "spans of the pool": ["first"],
        "signals": SIGNALS,
        "parent": True,
        "status": "ERROR",
        "recorded": ["ValueError"],
    }
    assert all(f": {what}\n" in err for what in ("receiver", "early", "run()", "late"))
