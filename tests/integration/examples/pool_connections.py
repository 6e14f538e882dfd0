"""Pools: what `initializer` opens is closed as each worker ends."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.pool import ThreadPool

import threadhooks


# A connection for each worker that asks for one. It is closed in that worker.
@threadhooks.per_thread
def connection():
    with closing(sqlite3.connect("app.db", timeout=30)) as conn:
        yield conn


def square(number):
    return connection().execute("SELECT ? * ?", (number, number)).fetchone()[0]


def with_an_executor(numbers):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(square, numbers))


def with_a_thread_pool(numbers):
    pool = ThreadPool(4)
    try:
        return pool.map(square, numbers)
    finally:
        pool.close()
        pool.join()  # the end of a with block would not wait for the workers


# A cleanup beside the initializer, where one has those already.
plugin = threadhooks.Plugin("workers")


def with_a_cleanup(initialise, finalise, work, items):
    def begin():
        initialise()
        plugin.register(finalise)

    with ThreadPoolExecutor(4, initializer=begin) as pool:
        return list(pool.map(work, items))
