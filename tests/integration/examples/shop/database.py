"""Django, with nothing installed: a resource binds the thread's connection."""

from django.db import connections

import threadhooks


@threadhooks.per_thread
def database(alias="default"):
    connection = connections[alias]  # this thread's
    try:
        yield connection
    finally:
        connection.close()


def count_orders():
    with database().cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
        return cursor.fetchone()[0]
