"""What threadhooks costs, beside its peers: `python -m tests.benchmarks`.

The two sides of each row are measured in turns, one after the other, and whoever goes first changes with every round.
Each round gives one ratio; the table shows the median of the ratios, and the quartiles. The collector stays on, and
starts from nothing before each sample.

As a rule each side has a process of its own, as who uses the one seldom uses the other: from 3.13 on, threadref slows
down every class that is derived from `weakref.finalize`, as ours is (see the row `call-after`). Where threads are
started and joined, both have the same process: there it matters more on which processors the system puts it.

Where all the work happens in one thread, that thread's CPU time is taken, since it doesn't see what else the machine
does. Where threads are started and joined, it's the time on the wall.
"""
