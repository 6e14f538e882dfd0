"""FastAPI: a connection for each worker thread that runs `def` endpoints."""

import signal
import sqlite3
import sys
import threading
from contextlib import closing

import uvicorn
from fastapi import FastAPI

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


app = FastAPI()


@app.post("/hits")
def hit():  # def, not async def: it runs in a worker
    with connection() as conn:  # a transaction: sqlite3 commits, or rolls back
        conn.execute("INSERT INTO hits VALUES (?)", (threading.get_ident(),))
    return "hello"


def wait_for_workers():
    for worker in list(workers):
        worker.join()


def serve(port=8000):
    # When uvicorn has shut down, it raises SIGTERM once more, to end the process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        uvicorn.run(app, port=port)
    finally:
        wait_for_workers()  # AnyIO tells them to end, and doesn't wait
