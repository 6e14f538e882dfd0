"""joblib, and ThreadPool.terminate(): we join the daemons that nobody joins."""

import sqlite3
import threading
from contextlib import closing
from multiprocessing.pool import ThreadPool

from joblib import Parallel, delayed

import threadhooks

workers = set()


@threadhooks.per_thread
def connection():
    worker = threading.current_thread()
    workers.add(worker)
    try:
        with closing(sqlite3.connect("app.db", timeout=30)) as conn:
            yield conn
    finally:
        workers.discard(worker)


def square(number):
    return connection().execute("SELECT ? * ?", (number, number)).fetchone()[0]


def with_joblib(numbers):
    parallel = Parallel(n_jobs=4, backend="threading")
    return parallel(delayed(square)(number) for number in numbers)


def with_a_thread_pool(numbers):
    with ThreadPool(4) as pool:  # the end of the block calls terminate()
        return pool.map(square, numbers)


def main():
    try:
        print(sum(with_joblib(range(100))))
        print(sum(with_a_thread_pool(range(100))))
    finally:
        for worker in list(workers):
            worker.join()


if __name__ == "__main__":
    main()
