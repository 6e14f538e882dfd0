"""Celery: a connection for each thread, or each child process, that runs tasks."""

import sqlite3
from contextlib import closing

from celery import Celery
from celery.signals import worker_process_shutdown

import threadhooks

app = Celery("shop")  # with the broker of CELERY_BROKER_URL


@threadhooks.per_thread
def connection():
    with closing(sqlite3.connect("app.db", timeout=30)) as conn:
        yield conn


@app.task
def insert(number):
    with connection() as conn:  # a transaction: sqlite3 commits, or rolls back
        conn.execute("INSERT INTO done VALUES (?)", (number,))


# For --pool prefork: a child runs tasks in its main thread, and ends without atexit.
@worker_process_shutdown.connect
def close_connection(**extra):
    connection.close()
