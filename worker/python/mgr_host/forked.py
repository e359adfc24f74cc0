"""Where a process that the application has forked ends: it is neither mold nor worker, and goes no
further than the application's own code."""

import os
import sys

import _mgr_core

from mgr_host import errors, streams


class Application:
    """Round a call of the application; a process that was forked inside of it ends at its end."""

    def __enter__(self):
        pass

    def __exit__(self, kind, exception, traceback):
        _mgr_core.end_if_forked(exception)


def end(exception):
    """Ends this process with the status with which a Python program ends, as os._exit() does it: exit
    handlers, threads and finalizers are the worker's."""
    status = 1
    try:
        status = status_of(exception)
        streams.flush()
    finally:
        os._exit(status)


def status_of(exception):
    if exception is None:
        return 0
    if not isinstance(exception, SystemExit):
        tell(errors.full(exception))
        return 1
    if exception.code is None:
        return 0
    if isinstance(exception.code, int):
        return exception.code & 0xFF
    tell(str(exception.code))
    return 1


def tell(text):
    if sys.stderr is not None:
        with errors.ignored(OSError, ValueError):
            sys.stderr.write(text + "\n")
