"""Qt: a QThread that keeps its connection until it ends."""

import sqlite3
from contextlib import closing

from PySide6.QtCore import QObject, QThread, Signal, Slot

import threadhooks


@threadhooks.per_thread
def connection():
    with closing(sqlite3.connect(":memory:")) as conn:
        yield conn


class EventLoop(QThread):
    """Runs the slots of the objects that are moved to it."""

    def run(self):  # in Python, so that the slots are called from within one call
        with threadhooks.announced():  # for early cleanups and the first two signals
            self.exec()


class Calculator(QObject):
    calculated = Signal(int)

    @Slot(int)
    def square(self, number):
        row = connection().execute("SELECT ? * ?", (number, number)).fetchone()
        self.calculated.emit(row[0])


def start():
    """Connect signals to the slot. At the end, call quit() and wait()."""
    thread, calculator = EventLoop(), Calculator()
    calculator.moveToThread(thread)
    thread.start()
    return thread, calculator
