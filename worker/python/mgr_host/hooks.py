"""The setting `hooks`: the application's functions that are called at points of a process's life.

Each gets one dict: "event", "generation", "pid" and, in a worker, "slot"."""

import inspect
import os

from mgr_host import errors, forked, load

EVENTS = ("loaded", "worker_start", "worker_ready", "worker_exit")


class Hooks:
    """Those of one process. `named` maps events to `module:function`."""

    def __init__(self, named, log, **about):
        self._functions = {event: find(event, named[event]) for event in EVENTS if event in named}
        self._log = log
        self._about = about

    def call(self, event):
        """One that fails is a line in the log."""
        try:
            self.call_or_raise(event)
        except BaseException as exception:
            self._log("error", f"hook {event}: {errors.one_line(exception)}{where(exception)}")

    def call_or_raise(self, event):
        function = self._functions.get(event)
        if function is not None:
            with forked.Application():
                function({"event": event, "pid": os.getpid(), **self._about})


def find(event, name):
    """Raises load.Failure."""
    module_name, _, path = name.partition(":")
    try:
        function = load.walk(load.import_module(module_name), module_name, path)
    except load.Failure as failure:
        raise at(event, failure.args[0], failure.traceback) from None
    if not callable(function):
        raise at(event, f"{name} is not callable: it is {load.describe(function)}")
    if inspect.iscoroutinefunction(function):
        raise at(event, f"{name} is a coroutine function; hooks are plain ones")
    return function


def at(event, error, traceback=""):
    return load.Failure("hooks", f"hook {event}: {error}", traceback)


def call_loaded(hooks):
    """A failure is one of loading."""
    try:
        hooks.call_or_raise("loaded")
    except BaseException as exception:
        raise at("loaded", errors.one_line(exception), errors.full(exception)) from None


def where(exception):
    """The last line of the application's own, for a message of one line."""
    frames = exception.__traceback__
    last = None
    while frames is not None:
        if not errors.is_ours(frames.tb_frame.f_code.co_filename):
            last = frames
        frames = frames.tb_next
    return f" ({last.tb_frame.f_code.co_filename}, line {last.tb_lineno})" if last else ""
