"""Django: each thread closes its database connections as it ends."""

from django.apps import AppConfig
from django.db import connections

import threadhooks

plugin = threadhooks.Plugin("django connections")


@plugin.thread_exiting
def close_connections(thread, **extra):
    connections.close_all()


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        threadhooks.install()
