"""Celery: a connection for each thread, or each child process, that runs tasks."""

import os
import sqlite3
import threading
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
        conn.execute("INSERT INTO done VALUES (?, ?, ?)", (number, os.getpid(), threading.get_ident()))


# Only for --pool prefork: its children run tasks in their main thread, and end without atexit.
@worker_process_shutdown.connect
def close_connection(**extra):
    connection.close()
