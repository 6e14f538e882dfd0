"""sentry-sdk and OpenTelemetry: hooks that fail are reported, and a thread has a span of its own."""

import threading

import sentry_sdk
from opentelemetry import trace
from opentelemetry.instrumentation.threading import ThreadingInstrumentor

import threadhooks

sentry_sdk.init()  # with the DSN of the environment
ThreadingInstrumentor().instrument()
threadhooks.install()  # last, so that hooks find the scope that sentry-sdk hands to the thread

tracer = trace.get_tracer(__name__)


# What a hook raises goes to threading.excepthook, at which sentry-sdk does not look. It sees crashes of run() itself.
def report(args, previous=threading.excepthook):
    notes = getattr(args.exc_value, "__notes__", ())
    if any(note.endswith("a hook of threadhooks") for note in notes) and args.exc_type is not SystemExit:
        sentry_sdk.capture_exception(args.exc_value)
    previous(args)


threading.excepthook = report


# From its first use to the end of run(), inside the span in which the thread was started.
@threadhooks.per_thread(early=True)
def thread_span():
    with tracer.start_as_current_span(threading.current_thread().name) as span:
        yield span
