"""Dask: every thread of every worker process has a connection, which is closed as the worker closes."""

import os
import sqlite3
import threading
from contextlib import closing

from distributed import WorkerPlugin

import threadhooks


@threadhooks.per_thread
def connection(path):
    with closing(sqlite3.connect(path, timeout=30)) as conn:
        yield conn


def insert(path, number):
    """A task: it runs in whichever thread of whichever worker is free."""
    with connection(path) as conn:
        conn.execute("INSERT INTO done VALUES (?, ?, ?)", (number, os.getpid(), threading.get_ident()))


class ThreadLog(WorkerPlugin):
    """Is told about every thread that ends in a worker, on whichever machine that is."""

    name = "thread log"

    def __init__(self, path):
        self.path = path

    def setup(self, worker):
        threadhooks.install()
        # It is not closed in teardown(): Dask calls that before the worker's threads end.
        self.hooks = threadhooks.Plugin(f"thread log of {worker.name}")
        self.hooks.thread_exiting(self.write)

    def write(self, thread, info, exception, **extra):
        with open(self.path, "a") as log:
            log.write(f"{os.getpid()} {info.ident} {info.name}\n")


def insert_all(client, path, numbers, log):
    """What the client does, a `distributed.Client`."""
    client.register_plugin(ThreadLog(log))
    client.gather([client.submit(insert, path, number) for number in numbers])
