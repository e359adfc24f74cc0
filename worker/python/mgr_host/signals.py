"""TERM, INT and HUP are the supervisor's: a service manager sends them to the whole group, and a worker
that obeyed would leave with what it has in hand. An application can't take them in a worker; in
processes that it forks it can."""

import _signal
import asyncio
import functools
import os
import signal

OURS = frozenset((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def guard(worker):
    """From now on signal.signal() leaves these alone, in this process. All ways go through
    _signal.signal, also that of a signal.signal that was imported by name before."""
    install, process, told = _signal.signal, os.getpid(), set()

    def guarded(number, handler):
        if number not in OURS or os.getpid() != process:
            return install(number, handler)
        if number not in told and not is_of_a_runner(handler):
            told.add(number)
            worker.log("warning", f"{signal.Signals(number).name}: the application's handler is not "
                                  "used; the supervisor decides when a worker leaves")
        return _signal.getsignal(number)

    guarded.__doc__ = install.__doc__
    _signal.signal = guarded


def is_of_a_runner(handler):
    """asyncio.run()'s own, which it takes back at its end."""
    return (isinstance(handler, functools.partial)
            and getattr(handler.func, "__func__", None) is asyncio.Runner._on_sigint)


class Guarded:
    """A loop that takes no handler of these signals."""

    def add_signal_handler(self, sig, callback, *args):
        if sig in OURS:
            signal.signal(sig, callback)  # says that it does not
        else:
            super().add_signal_handler(sig, callback, *args)
