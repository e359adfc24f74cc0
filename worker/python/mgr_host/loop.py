"""asyncio over the worker's own loop: CPython's event loop with our selector."""

import asyncio
import selectors
import signal
import sys
import types


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
            return super().select(0)
        return []

    def close(self):
        self._worker.watch(-1)
        super().close()


class MgrLoop(asyncio.SelectorEventLoop):
    def __init__(self, worker):
        self._worker = worker
        super().__init__(CoreSelector(worker))

    def wake_on_signals(self):
        """Python's signal handlers run when the loop wakes: every signal must wake it."""
        signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)

    def remove_signal_handler(self, sig):
        removed = super().remove_signal_handler(sig)
        if not self._signal_handlers and not self.is_closed():
            self.wake_on_signals()
        return removed

    def close(self):
        if not self.is_closed():
            signal.set_wakeup_fd(-1)
        super().close()

    def set_debug(self, enabled):
        super().set_debug(enabled)
        self._worker.use_loop_for_steps(enabled)

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
