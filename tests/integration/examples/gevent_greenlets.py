"""gevent: a greenlet is a thread, and has a connection of its own."""

from gevent import monkey

monkey.patch_all()  # before threadhooks is imported

import sqlite3  # noqa: E402
import threading  # noqa: E402
from contextlib import closing  # noqa: E402

import gevent  # noqa: E402

import threadhooks  # noqa: E402

threadhooks.install()


@threadhooks.per_thread(early=True)  # in the greenlet itself
def connection():
    with closing(sqlite3.connect(":memory:")) as conn:
        yield conn
    print(threading.current_thread().name, "has closed its connection")


def work():
    connection().execute("SELECT 1")


def greenlet():
    with threadhooks.announced():  # install() only knows of what threading starts
        work()


thread = threading.Thread(target=work, name="a thread")
thread.start()
thread.join()

gevent.spawn(greenlet).join()
