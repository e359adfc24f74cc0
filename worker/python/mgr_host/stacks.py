"""What this worker executes, for `mgr stack`: faulthandler writes the threads, from inside of a signal
handler; what stands here adds asyncio's tasks as soon as the loop's thread runs Python code."""

import asyncio
import atexit
import faulthandler
import gc
import signal
import threading

# Of all that is told here, in characters; of one task, in frames.
MOST = 500_000
MOST_TASKS = 1000
MOST_FRAMES = 100
# Types of what stands between an awaiting frame and what it awaits, and does not tell it.
BETWEEN = {"FutureIter", "coroutine_wrapper", "async_generator_asend", "async_generator_athrow",
           "anext_awaitable"}
OURS = {"Receive": "receive()", "Send": "send()", "Request": "its turn"}


class Stacks:
    """One per worker. The signal is not the application's; what it has done to it while it was loaded
    is undone by another take()."""

    def __init__(self, worker):
        self._worker = worker
        self._loop = None
        atexit.register(worker.end_stacks)  # before faulthandler ends, which our handler calls

    def take(self):
        if self._worker.stack_pipe < 0:
            return
        number = self._worker.stack_signal
        faulthandler.unregister(number)
        signal.signal(number, self._on_signal)
        faulthandler.register(number, file=self._worker.stack_pipe, all_threads=True)
        self._worker.answer_stacks()

    def watch(self, loop):
        self._loop = loop

    def _on_signal(self, _signal, _frame):
        """Runs between any two instructions of the application: nothing may come out of it."""
        try:
            text = thread_names() + tasks_of(self._loop)
        except BaseException as exception:  # RecursionError, MemoryError
            text = f"the tasks could not be listed: {type(exception).__name__}\n"
        self._worker.tell_stacks(text)


def thread_names():
    lines = [f"  0x{ident:016x}  {plain(thread.name)}\n"
             for ident, thread in list(threading._active.items())]
    return "Names of the threads:\n" + "".join(lines)


def tasks_of(loop):
    tasks = sorted(asyncio.all_tasks(loop), key=number_of) if loop is not None else []
    if not tasks:
        return "\nNo task of asyncio.\n"
    running = asyncio.current_task(loop) if asyncio._get_running_loop() is loop else None
    parts, size = [], 0
    for index, task in enumerate(tasks):
        if size > MOST or index == MOST_TASKS:
            parts.append(f"\n… and {len(tasks) - index} tasks more\n")
            break
        parts.append(describe(task, task is running))
        size += len(parts[-1])
    return "".join(parts)


def number_of(task):
    """`Task-12` comes after `Task-9`."""
    name = task.get_name()
    head, _, tail = name.rpartition("-")
    return (head, int(tail)) if tail.isdecimal() and len(tail) < 19 else (name, -1)


def describe(task, is_running):
    """A task as faulthandler shows a thread: most recent call first."""
    frames, waits_for = chain(task.get_coro())
    if is_running:
        waits_for = "it runs now, see its thread"
    elif waits_for is not None:
        waits_for = "waits for " + waits_for
    else:
        waits_for = "waits for its turn"
    lines = [f"  File \"{plain(code.co_filename)}\", line {line} in {plain(code.co_qualname)}\n"
             for code, line in reversed(frames[:MOST_FRAMES])]
    if len(frames) > MOST_FRAMES:
        lines.insert(0, f"  … {len(frames) - MOST_FRAMES} frames more\n")
    line = getattr(task.get_coro(), "request_line", None)
    name = plain(task.get_name()) + (f" ({plain(line)})" if line else "")
    return f"\nTask {name}: {waits_for} (most recent call first):\n" + "".join(lines)


def chain(awaitable):
    """The frames from a coroutine to what it waits for in the end, outermost first, and that in words
    (None: it can run)."""
    frames = []
    for _ in range(10 * MOST_FRAMES):
        if awaitable is None:
            return frames, None
        frame, inner = step(awaitable)
        if frame is not None:
            frames.append((frame.f_code, frame.f_lineno))
        elif inner is None:
            return frames, words(awaitable)
        awaitable = inner
    return frames, "more than is looked at"


def step(awaitable):
    """(frame, what it awaits) of a coroutine, a generator, an asynchronous generator, and of what
    Python puts between them."""
    for frame, inner in (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"),
                         ("ag_frame", "ag_await")):
        found = getattr(awaitable, frame, None)
        if found is not None:
            return found, getattr(awaitable, inner, None)
    if type(awaitable).__name__ in BETWEEN:
        return None, next((each for each in gc.get_referents(awaitable)
                           if isinstance(each, asyncio.Future) or hasattr(each, "cr_await")
                           or hasattr(each, "ag_await") or type(each).__name__ in BETWEEN), None)
    return None, None


def words(awaitable):
    if isinstance(awaitable, asyncio.Task):
        return f"task {plain(awaitable.get_name())}"
    children = getattr(awaitable, "_children", None)
    if isinstance(awaitable, asyncio.Future) and isinstance(children, list):
        names = [plain(child.get_name()) for child in children
                 if isinstance(child, asyncio.Task) and not child.done()]
        return "tasks " + ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    if isinstance(awaitable, asyncio.Future):
        return "a future"
    kind = type(awaitable)
    if kind.__module__ == "_mgr_core":
        return OURS.get(kind.__name__, kind.__name__)
    return f"{plain(kind.__module__)}.{plain(kind.__qualname__)}"


def plain(text):
    """A name on one line, whatever is in it."""
    text = str(text)
    return (text if text.isprintable() else ascii(text)[1:-1])[:200]
