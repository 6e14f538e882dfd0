"""Tests, the first of which leaves a thread behind."""

import queue
import threading


class Downloader:
    def __init__(self):
        self.jobs = queue.Queue()
        threading.Thread(target=self.work, name="downloader", daemon=True).start()

    def work(self):
        while (job := self.jobs.get()) is not None:
            job()

    def close(self):
        self.jobs.put(None)


def test_download():
    downloader = Downloader()
    downloader.jobs.put(str)


def test_close():
    downloader = Downloader()
    downloader.close()
