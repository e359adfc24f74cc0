"""Fails in every way that an application can, chosen by the path."""

import asyncio
import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time

logging.basicConfig(format="logged %(message)s")
events = {}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    path, _, argument = scope["path"][1:].partition("/")
    answer = globals()[path](argument)
    if asyncio.iscoroutine(answer):
        answer = await answer
    body = str(answer).encode()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def pid(_):
    return os.getpid()


async def held(name):
    """Answers when somebody asks for /let/NAME."""
    events[name] = asyncio.Event()
    await events[name].wait()
    return "held"


def let(name):
    if name not in events:
        return "not yet"
    events[name].set()
    return "let"


# ---- output

def write(count):
    """Lines of which each says who wrote it, and its number; the last one is long."""
    me = os.getpid()
    for number in range(int(count)):
        filler = "x" * (200 if number % 50 else 20000)
        print(f"stdout {me} {number} {filler}.")
        print(f"stderr {me} {number} {filler}.", file=sys.stderr)
        logging.error("%d %d %s\nsecond line of %d %d.", me, number, filler, me, number)
    return "written"


def write_and_die(_):
    print("the last line on stdout")
    print("the last line on stderr", file=sys.stderr)
    logging.error("the last record")
    os.kill(os.getpid(), signal.SIGKILL)


# ---- what ends a request

def fail(_):
    raise LookupError("on purpose")


def system_exit(_):
    sys.exit(7)


def keyboard_interrupt(_):
    raise KeyboardInterrupt


def recursion(_):
    return recursion(_)


def limit_memory(megabytes):
    """From here on this process may take so much more; 0: as much as it likes."""
    if megabytes == "0":
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        return "unlimited"
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limit = now + int(megabytes) * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    return "limited"


def memory_of_small_pieces(_):
    kept = []
    while True:
        kept.append(bytearray(500))


def memory_of_one_piece(_):
    return bytearray(1 << 40)


# ---- what ends a worker

def exit_at_once(_):
    os._exit(7)


def segmentation_fault(_):
    ctypes.string_at(0)


def abort(_):
    os.abort()


def stack_overflow(_):
    """A recursion that no limit of Python's stops."""
    sys.setrecursionlimit(10 ** 8)

    def deeper(_):
        return sorted([0], key=deeper)

    return deeper(0)


async def exit_in_a_task(_):
    async def leave():
        sys.exit(9)
    asyncio.create_task(leave())
    await asyncio.sleep(60)


async def interrupt_in_a_callback(_):
    def interrupt():
        raise KeyboardInterrupt("from a callback")
    asyncio.get_running_loop().call_soon(interrupt)
    await asyncio.sleep(60)


async def stop_the_loop(_):
    threading.Thread(target=time.sleep, args=(600,), name="of the application").start()
    asyncio.get_running_loop().stop()
    await asyncio.sleep(60)


# ---- and what does not

def crash_of_a_child(_):
    child = multiprocessing.get_context("fork").Process(target=segmentation_fault, args=("",))
    child.start()
    child.join()
    return child.exitcode
