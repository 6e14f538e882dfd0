"""What threadhooks costs, beside its peers: `python -m tests.benchmarks`.

Both sides of each row are measured in one process (or, where the row is about processes, in a pair of them), in turns,
one after the other, and whoever goes first changes with every round. Each round gives one ratio; the table shows the
median of the ratios, and the quartiles. The collector stays on, and starts from nothing before each sample.

Where all the work happens in one thread, that thread's CPU time is taken, since it doesn't see what else the machine
does. Where threads are started and joined, it's the time on the wall.
"""
