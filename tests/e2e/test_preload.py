"""preload: what an application did while it was imported, once its workers were forked from there."""

import os
import re
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
from mgr_harness import wait_for

WORKERS = 3

# What `state` does in the import, and `answer` in each request, is each test's.
APP = '''
import os
{state}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({{"type": "lifespan.startup.complete"}})
        return await send({{"type": "lifespan.shutdown.complete"}})
    text = f"{{os.getpid()}} {{await answer()}}"
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": text.encode()}})

async def answer():
{answer}
'''


def indent(text):
    return "".join(f"    {line}\n" for line in text.strip().splitlines())


@pytest.fixture
def serve(make_mgr):
    def make(state, answer="return ''", **settings):
        mgr = make_mgr(**{"workers": WORKERS, "preload": "on", "min_ready": "100ms", **settings})
        mgr.deploy_text(APP.format(state=state, answer=indent(answer)))
        return mgr.start()
    return make


def answers(mgr):
    """{pid: what it answered first}, of every worker."""
    found = {}

    def all_have_answered():
        pid, text = mgr.get()[1].decode().split(" ", 1)
        found.setdefault(int(pid), text)
        return set(found) == {worker["pid"] for worker in mgr.status_now()["workers"]}

    wait_for(all_have_answered, f"an answer of each worker, not only {found}", period=0)
    return found


def mold_of(mgr):
    children = Path(f"/proc/{mgr.pid}/task/{mgr.pid}/children").read_text().split()
    workers = {worker["pid"] for worker in mgr.workers()}
    return next(pid for pid in map(int, children) if pid not in workers)


# ---- what forbids it

LEFT_OPEN = {
    "a thread": ("import threading, time\n"
                 "threading.Thread(target=time.sleep, args=(3600,), name='reporter', daemon=True).start()",
                 "thread 'reporter'"),
    "a pool's thread": ("import concurrent.futures\n"
                        "pool = concurrent.futures.ThreadPoolExecutor(thread_name_prefix='crew')\n"
                        "pool.submit(int).result()", "thread 'crew_0'"),
    "a thread without threading": ("import _thread, time\n"
                                   "def beat():\n"
                                   "    time.sleep(3600)\n"
                                   "_thread.start_new_thread(beat, ())\n"
                                   "import sys\n"
                                   "while len(sys._current_frames()) < 2:\n"
                                   "    time.sleep(0.01)", "thread without a name in beat()"),
    "a queue listener": ("import logging.handlers, queue\n"
                         "listener = logging.handlers.QueueListener(queue.Queue())\n"
                         "listener.start()", "thread 'Thread-"),
    "a listening socket": ("import socket\n"
                           "s = socket.create_server(('127.0.0.1', 0))", "listening socket 127.0.0.1:"),
    "an event loop": ("import asyncio\nloop = asyncio.new_event_loop()", "epoll descriptor "),
}


@pytest.mark.parametrize("what", LEFT_OPEN)
def test_what_does_not_survive_a_fork_is_named_and_each_worker_loads_for_itself(serve, what):
    state, phrase = LEFT_OPEN[what]
    mgr = serve(state, preload="auto")
    warning = next(line for line in mgr.log.splitlines() if "left open" in line)
    assert phrase in warning and "each worker loads the application itself" in warning
    assert len(answers(mgr)) == WORKERS


def test_a_connection_that_the_import_opened_is_named(serve):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = "127.0.0.1:%d" % server.getsockname()[1]
        mgr = serve(f"import socket\ns = socket.create_connection(('127.0.0.1', {address.split(':')[1]}))",
                    preload="auto")
        assert f"left open: connected socket to {address}" in mgr.log
        assert len(answers(mgr)) == WORKERS


def test_with_preload_on_it_is_named_and_forked_all_the_same(serve):
    mgr = serve("import threading, time\n"
                "threading.Thread(target=time.sleep, args=(3600,), name='reporter', daemon=True).start()",
                "return threading.active_count()")
    assert "left open: thread 'reporter'; workers are forked all the same, as preload is on" in mgr.log
    # The thread is the mold's: no worker has it, and none believes that it has.
    assert set(answers(mgr).values()) == {"1"}


@pytest.mark.parametrize("state", [
    "import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()",
    "import concurrent.futures\n"
    "with concurrent.futures.ThreadPoolExecutor() as pool:\n    pool.submit(int).result()",
    "import socket\na, b = socket.socketpair()",
    "import sqlite3\ndb = sqlite3.connect('file.db')\ndb.execute('select 1')",
    "import asyncio\nasyncio.run(asyncio.sleep(0))",
])
def test_what_has_ended_or_may_be_shared_forbids_nothing(serve, state):
    mgr = serve(state, preload="auto")
    assert "left open" not in mgr.log
    assert len(answers(mgr)) == WORKERS


# ---- os.register_at_fork, atexit

HOOKS = '''
import atexit

def note(event):
    with open("events", "a") as file:
        file.write(f"{event} {os.getpid()}\\n")

os.register_at_fork(before=lambda: note("before"), after_in_parent=lambda: note("parent"),
                    after_in_child=lambda: note("child"))
atexit.register(note, "exit")
'''


def test_fork_hooks_run_once_for_each_worker_and_exit_hooks_in_workers_alone(serve):
    mgr = serve(HOOKS)
    mold = mold_of(mgr)
    pids = [worker["pid"] for worker in mgr.workers()]
    events = Counter((mgr.directory / "events").read_text().splitlines())
    assert events == Counter({f"before {mold}": WORKERS, f"parent {mold}": WORKERS,
                              **{f"child {pid}": 1 for pid in pids}})
    mgr.must("stop")
    after = Counter((mgr.directory / "events").read_text().splitlines()) - events
    assert after == Counter({f"exit {pid}": 1 for pid in pids})


def test_what_the_import_printed_is_not_printed_again_by_workers(serve):
    mgr = serve("import sys\nsys.stdout.write('once, without a line end')\nprint('buffered', end='')\n"
                "sys.stderr.write('an error')")
    answers(mgr)
    mgr.must("stop")
    assert mgr.log.count("once, without a line end") == 1 and mgr.log.count("an error") == 1


# ---- random numbers

RANDOM = {
    "random": ("import random\nrandom.random()", "return random.random()"),
    "random, seeded by the import": ("import random\nrandom.seed(5)\nrandom.random()",
                                     "return random.random()"),
    "secrets": ("import secrets\nsecrets.token_hex()", "return secrets.token_hex()"),
    "uuid4": ("import uuid\nuuid.uuid4()", "return uuid.uuid4()"),
    "uuid1": ("import uuid\nuuid.uuid1()", "return uuid.uuid1()"),
    "ssl": ("import ssl\nssl.RAND_bytes(8)", "return ssl.RAND_bytes(16).hex()"),
    "tempfile": ("import tempfile\ntempfile.mktemp()", "return tempfile.mktemp()"),
}


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("what", RANDOM)
def test_workers_do_not_repeat_each_others_random_numbers(serve, what, preload):
    mgr = serve(*RANDOM[what], preload=preload)
    if preload == "off" and "seeded" in what:
        # Each worker runs the import, and its seed, itself: as the application says.
        assert len(set(answers(mgr).values())) == 1
        return
    seen = list(answers(mgr).values())
    mgr.must("restart")  # others, from the same mold
    seen += answers(mgr).values()
    assert len(set(seen)) == 2 * WORKERS, seen


def test_hashes_are_those_of_the_mold(serve):
    """Sets and dictionaries that the import made must be found again."""
    mgr = serve("names = {f'name {i}': i for i in range(1000)}\nmade = hash('made by the import')",
                "return made == hash('made by the import') and all(names[f'name {i}'] == i "
                "for i in range(1000))")
    assert set(answers(mgr).values()) == {"True"}


# ---- locks, queues, logging

@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "Semaphore"])
def test_locks_that_the_import_made_and_used_work(serve, kind):
    mgr = serve(f"import threading\nlock = threading.{kind}()\nwith lock:\n    pass",
                "import concurrent.futures\n"
                "def use():\n"
                "    with lock:\n"
                "        return 'used'\n"
                "with lock:\n"
                "    pass\n"
                "with concurrent.futures.ThreadPoolExecutor() as pool:\n"
                "    return pool.submit(use).result(5)")
    assert set(answers(mgr).values()) == {"used"}


def test_locks_of_asyncio_that_the_import_made_belong_to_each_workers_loop(serve):
    mgr = serve("import asyncio\nlock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue()",
                "async with lock:\n"
                "    asyncio.get_running_loop().call_later(0.01, queue.put_nowait, 'came')\n"
                "    asyncio.get_running_loop().call_later(0.01, event.set)\n"
                "    await asyncio.wait_for(event.wait(), 5)\n"
                "    return await asyncio.wait_for(queue.get(), 5)")
    assert set(answers(mgr).values()) == {"came"}


def test_a_lock_of_multiprocessing_excludes_all_workers(serve):
    mgr = serve("import multiprocessing, time\n"
                "counter = multiprocessing.get_context('fork').Value('i', 0)",
                "for _ in range(200):\n"
                "    with counter.get_lock():\n"
                "        counter.value += 1\n"
                "return counter.value")
    seen, requests = [], 12
    for _ in range(requests):
        seen.append(int(mgr.get()[1].split()[1]))
    assert max(seen) == 200 * requests


def test_the_imports_pool_of_threads_works_in_workers_where_it_had_no_thread_yet(serve):
    mgr = serve("import concurrent.futures\npool = concurrent.futures.ThreadPoolExecutor()",
                "import asyncio\n"
                "return await asyncio.get_running_loop().run_in_executor(pool, os.getpid)", preload="auto")
    assert "left open" not in mgr.log
    assert all(int(text) == pid for pid, text in answers(mgr).items())


LOGGING = '''
import logging
logging.basicConfig(filename="app.log", format="%(process)d %(message)s", level="INFO")
logging.info("imported")
'''


def test_a_log_that_the_import_opened_has_whole_lines_of_all_workers(serve):
    mgr = serve(LOGGING, "for number in range(50):\n"
                         "    logging.info('%s', f'{number} ' + 'x' * 3000)\n"
                         "return ''")
    pids = set()
    for _ in range(30):
        pids.add(int(mgr.get()[1].split()[0]))
    first, *lines = (mgr.directory / "app.log").read_text().splitlines()
    assert first.endswith(" imported") and int(first.split()[0]) not in pids
    assert len(lines) == 30 * 50
    assert all(re.fullmatch(r"\d+ \d+ x{3000}", line) for line in lines)
    assert {int(line.split()[0]) for line in lines} == pids


# ---- descriptors

def open_pipes_and_sockets(pid):
    """Of this process, by inode; but standard output and error, which all share."""
    found = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        target = os.readlink(entry.path)
        if target.startswith(("socket:", "pipe:")) and int(entry.name) > 2:
            found.add(target)
    return found


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_worker_has_no_descriptor_of_another_ones(serve, preload):
    mgr = serve("", preload=preload)
    answers(mgr)
    owned = [open_pipes_and_sockets(pid) for pid in
             (mold_of(mgr), *(worker["pid"] for worker in mgr.workers()))]
    for index, mine in enumerate(owned):
        for others in owned[index + 1:]:
            assert not mine & others
    assert all(owned)


def test_a_file_that_the_import_opened_is_readable_in_every_worker(serve):
    mgr = serve("with open('data', 'w') as file:\n    file.write('some data')\n"
                "data = open('data', 'rb')",
                "return os.pread(data.fileno(), 100, 0).decode()", preload="auto")
    assert set(answers(mgr).values()) == {"some data"}
    assert "left open" not in mgr.log


def test_workers_know_themselves(serve):
    mgr = serve("import threading, multiprocessing\nimported_by = os.getpid()",
                "return [threading.current_thread() is threading.main_thread(), threading.active_count(), "
                "os.getppid(), imported_by, threading.get_native_id() == os.getpid()]")
    mold = mold_of(mgr)
    assert set(answers(mgr).values()) == {str([True, 1, mgr.pid, mold, True])}


def test_what_the_import_made_is_shared_and_stays_shared(serve):
    """A worker that only reads what the mold has, garbage collections included, does not copy it."""
    mgr = serve("import gc\nbig = [[number] for number in range(400_000)]",
                "for _ in range(3):\n    gc.collect()\nreturn len(big)", workers=1)
    pid = mgr.workers()[0]["pid"]
    for _ in range(10):
        mgr.get()
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(),
                            re.MULTILINE))
    unique = int(sizes["Private_Clean"]) + int(sizes["Private_Dirty"])
    assert int(sizes["Rss"]) > 40_000  # 400,000 lists are there
    assert unique < 15_000


def test_the_interpreter_is_ready_at_once_after_a_worker_died(serve):
    mgr = serve("import time\ntime.sleep(1.5)", workers=1)
    old = mgr.workers()[0]["pid"]
    died = time.monotonic()
    os.kill(old, 9)
    wait_for(lambda: mgr.status_now()["workers"][0]["pid"] not in (old, None)
             and mgr.status_now()["workers"][0]["state"] == "ready", "replaced")
    assert time.monotonic() - died < 1.4  # the import alone takes longer
