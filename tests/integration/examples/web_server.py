"""A threaded WSGI server: a connection for each of its threads."""

import sqlite3
import threading
from contextlib import closing

import threadhooks


@threadhooks.per_thread
def connection():
    with closing(sqlite3.connect("app.db", timeout=30)) as conn:
        yield conn


def app(environ, start_response):
    with connection() as conn:
        conn.execute("INSERT INTO hits VALUES (?)", (threading.get_ident(),))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def werkzeug_server(port=8000):
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", port, app, threaded=True)
    server.daemon_threads = False  # so that it waits for them when it is shut down
    return server


def waitress_server(port=8000):
    from waitress import create_server

    return create_server(app, host="127.0.0.1", port=port, threads=8)


def run_waitress(server):
    workers = [thread for thread in threading.enumerate() if thread.name.startswith("waitress-")]
    server.run()  # until KeyboardInterrupt or SystemExit: then it tells its workers to end
    server.close()
    for worker in workers:
        worker.join(10)
