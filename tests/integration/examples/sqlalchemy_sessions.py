"""SQLAlchemy: no session outlives its thread, or keeps a connection of the pool."""

from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

import threadhooks

engine = create_engine("sqlite:///app.db")
new_session = sessionmaker(engine)

# With scoped_session, which must be told while its thread-local is still there.
Session = scoped_session(new_session)

threadhooks.install()
plugin = threadhooks.Plugin("sqlalchemy sessions")


@plugin.thread_exiting
def remove_session(thread, **extra):
    Session.remove()


# Without scoped_session. Nothing needs to be installed.
@threadhooks.per_thread
def current_session():
    with new_session() as session:
        yield session
