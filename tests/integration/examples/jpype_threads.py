"""JPype: each thread that has called Java is detached as it ends."""

import jpype  # before threadhooks: see below

import threadhooks

jpype.startJVM()

JavaThread = jpype.JClass("java.lang.Thread")


@threadhooks.per_thread
def java():
    JavaThread.attachAsDaemon()
    try:
        yield jpype.java
    finally:
        JavaThread.detach()


@threadhooks.per_thread
def words():
    found = java().util.TreeSet()  # java() first, so that the thread is detached last
    try:
        yield found
    finally:
        found.clear()


def count(text):
    words().addAll(text.split())
    return words().size()
