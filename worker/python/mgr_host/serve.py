"""The life of a worker in Python, from its fork to its exit status."""

import asyncio
import gc
import os
import threading
import time

import _mgr_core

from mgr_host import errors, hooks, last_words, load, nested, signals, wsgi
from mgr_host.lifespan import Lifespan, StartupFailed
from mgr_host.loop import EAGER_TASKS, MgrLoop, task_step_type
from mgr_host.stacks import Stacks

# How long a worker that must leave now waits for its cancelled tasks.
QUICK = 0.3
# How long one of `mgr check`, which has nothing in hand, waits for threads and exit handlers.
CHECKED = 2.0


def run(worker, application, settings):
    """Serves until the supervisor says otherwise; returns the exit status."""
    life = Life(worker, application, settings)
    status = life.run()
    bound_the_end(worker, life.deadline(), status)
    return status


def make_loop(name, worker):
    if name != "mgr":
        return nested.make(name, worker)
    loop = MgrLoop(worker)
    loop.wake_on_signals()
    return loop


class Life:
    def __init__(self, worker, application, settings):
        self.worker = worker
        self.application = application
        self.settings = settings
        self.leaving = None  # a future: how to leave
        self.serving = None  # the task of serve()
        worker.open(self.on_leave)
        last_words.keep_for(worker)
        self.stacks = Stacks(worker)
        self.stacks.take()
        self.loop = make_loop(settings["loop"], worker)
        self.stacks.watch(self.loop)
        self.leaving = self.loop.create_future()

    def on_leave(self, how):
        if self.leaving is not None and not self.leaving.done():
            self.leaving.set_result(how)

    def deadline(self):
        left = max(self.worker.time_to_leave(), QUICK)
        return time.monotonic() + (min(left, CHECKED) if self.settings["check_only"] else left)

    def run(self):
        asyncio.set_event_loop(self.loop)
        signals.guard(self.worker)
        try:
            if self.application is None:
                self.load()
            self.hooks = self.find_hooks()
        except load.Failure as failure:
            self.worker.boot_failed(failure.stage, failure.error, failure.traceback, 4)
            return 4
        self.hooks.call("worker_start")
        try:
            return self.serve_interface()
        finally:
            self.hooks.call("worker_exit")

    def serve_interface(self):
        if self.application.interface == "wsgi":
            self.stacks.watch(None)
            self.close_loop()  # an application may run loops of its own on this thread
            return wsgi.serve(self.worker, self.application.call, self.settings["threads"],
                              self.log_exception, self.ready)
        try:
            return self.loop.run_until_complete(self.serve())
        except (SystemExit, KeyboardInterrupt) as exception:
            return self.ended_by(exception)
        except RuntimeError:
            if self.serving is None or self.serving.done():
                raise
            self.worker.log("error", "the application stopped its worker's loop (loop.stop()): "
                                     "the worker ends")
            return 1
        finally:
            self.close_loop()

    def ended_by(self, exception):
        """asyncio lets these two through where a task or callback raises them."""
        _mgr_core.end_if_forked(exception)
        self.worker.log("error", "the application ended its worker from a task or callback\n"
                                 f"{errors.outside_of_a_request(exception)}")
        code = 130 if isinstance(exception, KeyboardInterrupt) else exception.code
        return 0 if code is None else code if isinstance(code, int) else 1

    def load(self):
        try:
            self.application = load.load(self.settings["app"], self.settings["interface"])
            hooks.call_loaded(self.find_hooks())
        finally:
            self.worker.restore_signals()
            self.stacks.take()
        gc.collect()
        gc.freeze()  # the collector need not look at what stays for the process's whole life

    def find_hooks(self):
        return hooks.Hooks(self.settings["hooks"], self.worker.log, slot=self.worker.slot,
                           generation=self.settings["generation"])

    def ready(self, interface):
        self.hooks.call("worker_ready")
        self.worker.ready(interface)

    async def serve(self):
        self.serving = asyncio.current_task()
        lifespan = Lifespan(self.application, self.settings["lifespan"], self.worker.log)
        starting = asyncio.ensure_future(lifespan.startup())
        await asyncio.wait({starting, self.leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            await self.cancel_tasks(QUICK)
            return 0
        try:
            starting.result()
        except StartupFailed as failure:
            self.worker.boot_failed("lifespan", failure.error, failure.traceback, 3)
            await self.cancel_tasks(QUICK)
            return 3
        self.worker.host(self.application.call, self.loop, self.log_exception, lifespan.state,
                         self.application.double_callable, EAGER_TASKS,
                         None if EAGER_TASKS else task_step_type())
        self.ready(self.application.interface)
        await self.leave(await self.leaving, lifespan)
        return 0

    async def leave(self, how, lifespan):
        if how != "shut_down":
            await self.cancel_tasks(QUICK, keep=lifespan.task)
        if how != "now":
            await lifespan.shutdown()  # the worker ends at its deadline, and says so
        await self.cancel_tasks(QUICK if how == "now" else max(self.worker.time_to_leave(), QUICK))
        await self.loop.shutdown_asyncgens()

    async def cancel_tasks(self, seconds, keep=None):
        """Cancels what still runs (but this), and gives it so long to end."""
        others = [task for task in asyncio.all_tasks()
                  if task is not asyncio.current_task() and task is not keep]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=seconds)
        for task in others:
            if task.done() and not task.cancelled():
                task.exception()  # looked at: else the collector complains about it

    def log_exception(self, line, exception):
        if errors.is_only_a_disconnect(exception):
            self.worker.log("debug", f"{line}: the client has disconnected")
        else:
            self.worker.log("error", f"{line}: the application failed\n{errors.full(exception)}")

    def close_loop(self):
        executor = getattr(self.loop, "_default_executor", None)  # uvloop shows none
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        asyncio.set_event_loop(None)
        self.loop.close()


def bound_the_end(worker, deadline, status):
    """The interpreter's end waits for threads and exit handlers without limit: where they take
    longer than the time to leave, the process ends without them."""
    def end():
        time.sleep(max(deadline - time.monotonic(), 0))
        running = [thread.name for thread in threading.enumerate()
                   if not thread.daemon and thread is not threading.main_thread()]
        worker.log("warning", "ended without waiting for what still runs: "
                   + (", ".join(running) or "exit handlers"))
        os._exit(status)

    with errors.ignored(RuntimeError):  # no thread to be had: the supervisor bounds the end too
        threading.Thread(target=end, name="mgr end", daemon=True).start()
