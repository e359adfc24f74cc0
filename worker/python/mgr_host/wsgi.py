"""The life of a worker with a WSGI application (PEP 3333); its requests are C++, in _mgr_core."""

import io
import os
import signal
import socket
import stat
import sys
import threading
import time

from mgr_host import errors

# How long a worker that must leave waits for threads that have just lost their clients.
QUICK = 0.3


def serve(worker, application, threads, log_exception, ready):
    """Serves until the supervisor says otherwise; returns the exit status. `ready(interface)` tells
    it that this worker can."""
    woken, wakes = socket.socketpair()
    for end in (woken, wakes):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    worker.host_wsgi(application, log_exception, sendable, ErrorStream(), threads, woken.fileno())
    pool = []
    try:
        if threads > 1:
            start(worker, threads, pool)
    except RuntimeError as error:
        worker.stop_requests()
        worker.boot_failed("threads", f"thread {len(pool) + 1} of {threads}: {error}", "", 3)
        return 3
    ready("wsgi")
    try:
        worker.serve_wsgi()
    finally:  # a signal handler of the application may raise
        worker.stop_requests()
    leave_by = time.monotonic() + max(worker.time_to_leave(), QUICK)
    for thread in pool:
        thread.join(max(leave_by - time.monotonic(), 0))
    signal.set_wakeup_fd(-1)
    return 0


def start(worker, threads, pool):
    for number in range(threads):
        thread = threading.Thread(target=worker.run_requests, args=(number,),
                                  name=f"mgr wsgi {number}")
        thread.start()
        pool.append(thread)


def sendable(file):
    """What sendfile may send in the place of what `file` reads: (descriptor, position); or None.

    Only files that hand through what the descriptor holds: a GzipFile has a descriptor too.
    """
    if type(file).__module__ == "tempfile":
        file = getattr(file, "file", file)
    raw = file if type(file) is io.FileIO else getattr(file, "raw", None)
    if type(raw) is not io.FileIO or type(file) not in (io.FileIO, io.BufferedReader,
                                                        io.BufferedRandom):
        return None
    try:
        if not raw.readable() or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
            return None
        if type(file) is io.BufferedRandom:
            file.flush()
        return raw.fileno(), file.tell()
    except (OSError, ValueError):  # closed: reading it will say so
        return None


class ErrorStream:
    """`wsgi.errors`: standard error, line by line, so that threads do not mix their lines."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self):
        self._begun = threading.local()  # .text: a line without its end

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        begun = getattr(self._begun, "text", "") + text
        lines, newline, self._begun.text = begun.rpartition("\n")
        if newline:
            self._put(lines + newline)
        return len(text)

    def writelines(self, lines):
        self.write("".join(lines))

    def flush(self):
        begun = getattr(self._begun, "text", "")
        if begun:
            self._begun.text = ""
            self._put(begun)

    def isatty(self):
        return False

    def _put(self, text):
        stream = sys.stderr
        if stream is not None:
            with errors.ignored(OSError, ValueError):
                stream.write(text)
                stream.flush()
