"""asyncio over the worker's own loop: CPython's event loop with our selector."""

import asyncio
import heapq
import selectors
import signal
import sys
import types
from asyncio import format_helpers

from mgr_host import signals

# Minor versions of CPython whose loop is the one that ours takes the place of.
TESTED = {(3, 11), (3, 12), (3, 13)}
# As in asyncio.base_events: from when on cancelled timers are removed before their time.
MIN_SCHEDULED_TIMERS = 100
MIN_CANCELLED_FRACTION = 0.5


class CoreSelector(selectors.EpollSelector):
    """Descriptors that asyncio watches have an epoll set of their own, which the worker's loop
    watches as one descriptor; only when that is readable is the set asked."""

    def __init__(self, worker):
        super().__init__()
        self._worker = worker
        self._turn = worker.select
        worker.watch(self.fileno())

    def select(self, timeout=None):
        if self._turn(timeout):
            return self.poll()
        return []

    def poll(self):
        return super().select(0)

    def close(self):
        self._worker.watch(-1)
        super().close()


class MgrLoop(signals.Guarded, asyncio.SelectorEventLoop):
    """CPython's loop. What every request passes (call_soon() and what runs its callbacks) is ours
    where we know this CPython's private attributes and the loop is not in debug mode, else
    CPython's own; both work on the same queue, so that the one may follow the other at any time."""

    def __init__(self, worker):
        self._worker = worker
        self._adopted = False
        self._ours = False
        super().__init__(CoreSelector(worker))
        if sys.version_info[:2] in TESTED:
            worker.adopt(self)
            worker.adopt_tasks(asyncio.tasks._all_tasks if sys.version_info < (3, 12)
                               else asyncio.tasks._scheduled_tasks)
            self._adopted = True
            self._write_to_self = worker.wake  # a system call only while the loop waits
            self._use_ours(not self._debug)
        else:
            worker.log("warning", f"CPython {sys.version_info[0]}.{sys.version_info[1]} is newer "
                       "than this version of mgr: asyncio's own loop runs, which is slower")

    def _use_ours(self, ours):
        self._ours = ours
        if ours:
            self.call_soon = self._worker.call_soon
            self.call_soon_threadsafe = self._worker.call_soon_threadsafe
            self.get_debug = self._worker.no_debug
        else:
            for name in ("call_soon", "call_soon_threadsafe", "get_debug"):
                vars(self).pop(name, None)

    def _run_once(self):
        if self._ours:
            self._worker.run_once()
        else:
            super()._run_once()

    def _poll_descriptors(self):
        self._process_events(self._selector.poll())

    def _callback_failed(self, handle, exception):
        """As Handle._run() tells it."""
        callback = format_helpers._format_callback_source(handle._callback, handle._args)
        self.call_exception_handler({"message": f"Exception in callback {callback}",
                                     "exception": exception, "handle": handle})

    def _drop_cancelled_timers(self):
        """As BaseEventLoop._run_once() does it: all of them where they are many, else the first."""
        timers = self._scheduled
        if (len(timers) > MIN_SCHEDULED_TIMERS
                and self._timer_cancelled_count / len(timers) > MIN_CANCELLED_FRACTION):
            for timer in timers:
                timer._scheduled = not timer._cancelled
            self._scheduled = [timer for timer in timers if not timer._cancelled]
            heapq.heapify(self._scheduled)
            self._timer_cancelled_count = 0
        while self._scheduled and self._scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False

    def wake_on_signals(self):
        """Python's signal handlers run when the loop wakes: every signal must wake it."""
        signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)

    def remove_signal_handler(self, sig):
        removed = super().remove_signal_handler(sig)
        if not self._signal_handlers and not self.is_closed():
            self.wake_on_signals()
        return removed

    def close(self):
        if not self.is_closed() and not self.is_running():  # else super() raises
            signal.set_wakeup_fd(-1)
        super().close()
        self._use_ours(False)
        self._worker.part()

    def set_debug(self, enabled):
        super().set_debug(enabled)
        self._worker.use_loop_for_steps(enabled)
        self._use_ours(self._adopted and not enabled and not self.is_closed())

    def set_task_factory(self, factory):
        super().set_task_factory(factory)
        self._worker.use_create_task(factory is not None)


EAGER_TASKS = sys.version_info >= (3, 12)


def task_step_type():
    """The type of what asyncio.Task asks its loop to call first; None where it is nothing special."""
    asked = []

    class Loop:
        def get_debug(self):
            return False

        def call_soon(self, callback, *, context=None):
            asked.append(type(callback))

    coroutine = asyncio.sleep(0)
    task = asyncio.Task(coroutine, loop=Loop())
    task._log_destroy_pending = False
    coroutine.close()
    return asked[0] if asked and asked[0] is not types.MethodType else None
