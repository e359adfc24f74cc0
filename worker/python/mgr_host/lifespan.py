"""ASGI's lifespan protocol (spec lifespan.rst 2.0), with Uvicorn's `auto`, `on` and `off`."""

import asyncio

from mgr_host import errors, forked


class StartupFailed(Exception):
    def __init__(self, error, traceback):
        super().__init__(error)
        self.error = error
        self.traceback = traceback


class Lifespan:
    """One per worker, in the worker's own loop. `state` is what each request gets a copy of."""

    def __init__(self, application, mode, log):
        self._application = application
        self._mode = mode
        self._log = log
        self.state = {}
        self._events = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._completed = set()  # of "startup", "shutdown"
        self._failures = {}  # by phase: the application's message
        self._exception = None
        self._told = self._answered = False  # of the start-up; with anything
        self.task = None

    async def startup(self):
        if self._mode == "off":
            return
        self.task = asyncio.create_task(self._run())
        await self._events.put({"type": "lifespan.startup"})
        await self._started.wait()
        if "startup" in self._failures:
            message = self._failures["startup"]
            last = message.strip().splitlines()[-1:] or ["lifespan.startup.failed"]
            raise StartupFailed(f"the application's start-up failed: {last[0]}", message)
        if self._exception is not None and "startup" not in self._completed:
            self._refused()

    def _refused(self):
        exception = self._exception
        if self._mode == "on":
            raise StartupFailed(f"lifespan failed: {errors.one_line(exception)}",
                                errors.full(exception))
        if self._told and not self._answered:
            # One that has no lifespan seldom listens before it fails.
            self._log("warning", "the application's start-up raised an exception; by `lifespan: auto` it "
                                 f"is taken for one without lifespan and served:\n{errors.full(exception)}")
        else:
            self._log("info", "the application does not support lifespan "
                              f"({errors.one_line(exception)})")

    async def shutdown(self):
        """Does nothing where the application has no lifespan, or has left it."""
        if self.task is None or self.task.done() or "startup" not in self._completed:
            return
        await self._events.put({"type": "lifespan.shutdown"})
        await self._stopped.wait()
        if "shutdown" in self._failures:
            self._log("error", f"the application's shutdown failed: {self._failures['shutdown']}")

    async def _run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"},
                 "state": self.state}
        try:
            with forked.Application():
                if self._application.double_callable:
                    await self._application.call(scope)(self._receive, self._send)
                else:
                    await self._application.call(scope, self._receive, self._send)
        except BaseException as exception:
            self._exception = exception
            if isinstance(exception, asyncio.CancelledError):
                raise
            if "startup" in self._completed and "shutdown" not in self._failures:
                self._log("error", f"lifespan failed:\n{errors.full(exception)}")
        finally:
            self._started.set()
            self._stopped.set()

    async def _receive(self):
        event = await self._events.get()
        self._told = True
        return event

    async def _send(self, message):
        self._answered = True
        kind = message["type"]
        prefix, _, verb = kind.rpartition(".")
        phase = prefix.removeprefix("lifespan.")
        if phase not in ("startup", "shutdown") or verb not in ("complete", "failed") \
                or not prefix.startswith("lifespan."):
            raise RuntimeError(f"unexpected ASGI message {kind!r} in a lifespan")
        if phase in self._completed or phase in self._failures:
            raise RuntimeError(f"{kind!r} after the {phase} has ended")
        if phase == "shutdown" and "startup" not in self._completed:
            raise RuntimeError(f"{kind!r} before the startup has ended")
        if verb == "failed":
            self._failures[phase] = str(message.get("message", ""))
        else:
            self._completed.add(phase)
        (self._started if phase == "startup" else self._stopped).set()
