"""Loops of the application's choice: asyncio's own, and uvloop's. They wait on the descriptor of the
worker's loop among their others, and turn that loop when it has something to do."""

import asyncio
import contextvars
import importlib
import selectors

from mgr_host import errors, load, signals


def require(name):
    """Fails where the loop of this name is not there; the mold imports it for its workers."""
    if name != "uvloop":
        return
    try:
        importlib.import_module(name)
    except Exception as exception:
        raise load.Failure("loop", f"loop: {name}: cannot import it: {errors.one_line(exception)}; "
                                   "it must be installed where the application is") from None


def make(name, worker):
    return uvloop_of(worker) if name == "uvloop" else AsyncioLoop(worker)


class Pump:
    def __init__(self, loop, worker):
        self._loop, self._worker = loop, worker
        self._context = contextvars.copy_context()  # that of no request
        self._timer, self._due = None, 0.0
        self._descriptor = worker.nest(self.ask)
        loop.add_reader(self._descriptor, self.turn)
        self.ask()

    def ask(self):
        self._loop.call_soon(self.turn, context=self._context)

    def turn(self):
        seconds = self._worker.pump()
        if seconds is None:
            return
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:  # that one comes first, and looks again
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(seconds, self.timer_fired, context=self._context)

    def timer_fired(self):
        self._timer = None
        self.turn()

    def stop(self):
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._descriptor)


class UvloopPump(Pump):
    """uvloop tells nobody when it waits: what is counted as work ends with the callbacks that a turn
    has queued, and a beat tells that no callback blocks."""

    def __init__(self, loop, worker):
        super().__init__(loop, worker)
        self._beat = None
        self.beat()

    def beat(self):
        self._worker.beat()
        self._beat = self._loop.call_later(1.0, self.beat, context=self._context)

    def stop(self):
        self._beat.cancel()
        super().stop()

    def turn(self):
        super().turn()
        self._loop.call_soon(self._worker.rest, context=self._context)


class Nested(signals.Guarded):
    """What both loops have in addition."""

    _worker = None

    def nest(self, worker, pump=Pump):
        self._worker = worker
        self._pump = pump(self, worker)
        worker.use_loop_for_steps(self.get_debug())

    def set_debug(self, enabled):
        super().set_debug(enabled)
        if self._worker is not None:  # the constructor calls it as well
            self._worker.use_loop_for_steps(enabled)

    def set_task_factory(self, factory):
        super().set_task_factory(factory)
        self._worker.use_create_task(factory is not None)

    def close(self):
        if not self.is_closed() and not self.is_running():  # else super() raises
            self._pump.stop()
        super().close()


class AccountingSelector(selectors.DefaultSelector):
    """Tells the worker when its loop waits."""

    def __init__(self, worker):
        super().__init__()
        self._worker = worker

    def select(self, timeout=None):
        self._worker.rest()
        try:
            return super().select(timeout)
        finally:
            self._worker.work()


class AsyncioLoop(Nested, asyncio.SelectorEventLoop):
    def __init__(self, worker):
        super().__init__(AccountingSelector(worker))
        self.nest(worker)


def uvloop_of(worker):
    import uvloop

    class UvLoop(Nested, uvloop.Loop):
        pass

    loop = UvLoop()
    loop.nest(worker, UvloopPump)
    return loop
