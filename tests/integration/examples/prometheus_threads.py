"""prometheus_client: threads that are alive, that have crashed, that have ended."""

import time

from prometheus_client import Counter, Gauge, Histogram

import threadhooks

alive = Gauge("app_threads", "Threads that are alive")
started = Counter("app_threads_started", "Threads that have started")
crashed = Counter("app_threads_crashed", "Threads whose run() raised")
seconds = Histogram("app_thread_seconds", "How long threads have lived")

alive.set_function(lambda: len(threadhooks.threads()))  # called at each scrape

monitor = threadhooks.Plugin("prometheus")


@monitor.thread_started
def count_start(thread, **extra):
    started.inc()


@monitor.thread_exited
def count_end(thread, info, exception, **extra):
    if exception is not None:
        crashed.inc()
    if info.announced:  # or else it is older than install(), and nobody knows how old
        seconds.observe(time.time() - info.attached_at)


threadhooks.install()
