"""Flask: one connection a thread, for requests and for other work."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from flask import Flask

import threadhooks

app = Flask(__name__)
pool = ThreadPoolExecutor(2)


@threadhooks.per_thread
def connection():
    with closing(sqlite3.connect("app.db", timeout=30)) as conn:
        yield conn


@app.post("/orders/<int:number>")
def order(number):
    with connection() as conn:  # a transaction: sqlite3 commits, or rolls back
        conn.execute("INSERT INTO orders VALUES (?, 'accepted')", (number,))
    pool.submit(confirm, number)
    return "accepted", 202


def confirm(number):  # no request: Flask has nothing to tear down
    with connection() as conn:
        conn.execute("UPDATE orders SET state = 'sent' WHERE number = ?", (number,))
