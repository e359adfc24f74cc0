"""A deploy that does not load or start leaves the old generation serving, and says why."""

import pytest
from mgr_harness import APPS, Load, no_loss, wait_for

GOOD = (APPS / "echo.py").read_text()
MENDED = GOOD.replace('b"echo "', 'b"mended "')
PRELOAD = pytest.mark.parametrize("preload", ["on", "off"])


def with_startup(code):
    """The good application whose lifespan does `code` at start-up."""
    start = '        if message["type"] == "lifespan.startup":\n'
    assert start in GOOD
    return GOOD.replace(start, start + "".join(f"            {line}\n" for line in code.splitlines()))


# name: (code, exit status at first start, stage, what the report must contain)
BAD = {
    "syntax_error": (GOOD + "\ndef broken(:\n", 4, "import", ["SyntaxError", "main.py", "def broken(:"]),
    "raising_import": (GOOD + '\nraise RuntimeError("no database here")\n', 4, "import",
                       ["Traceback", "RuntimeError: no database here", "main.py"]),
    "failing_lifespan": (with_startup('await send({"type": "lifespan.startup.failed",'
                                      ' "message": "no cache today"})\nreturn'), 3, "lifespan",
                         ["no cache today"]),
    "hanging_lifespan": (with_startup("await asyncio.sleep(3600)"), 3, "lifespan", []),
    "missing_attribute": (GOOD.replace("async def app(", "async def application_x("), 4, "attribute",
                          ["app"]),
}
DYING = with_startup("import threading\nthreading.Timer(0.2, os._exit, [7]).start()")


def loads(mgr):
    return Load(mgr, "new", 200), Load(mgr, "keep", 200, connections=16, depth=4)


def assert_refused(mgr, stage, words):
    """`mgr reload` fails and explains; the old workers serve on."""
    before = mgr.status()
    done = mgr.run("reload")
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    for word in [stage, *words]:
        assert word in said, said
    after = mgr.status()
    assert after["generation"] == before["generation"]
    assert after["state"] == "running"
    assert after["last_reload"]["ok"] is False
    assert after["last_reload"]["stage"] == stage
    assert after["last_reload"]["error"]
    assert [worker["pid"] for worker in after["workers"]] == [
        worker["pid"] for worker in before["workers"]]
    assert {worker["state"] for worker in after["workers"]} == {"ready"}


def assert_mended(mgr):
    mgr.deploy_text(MENDED)
    mgr.must("reload")
    assert mgr.status()["last_reload"]["ok"] is True
    assert {mgr.get("/x") for _ in range(20)} == {(200, b"mended /x")}


@PRELOAD
@pytest.mark.parametrize("kind", BAD)
def test_a_reload_of_bad_code_is_rolled_back_without_a_lost_request(make_mgr, kind, preload):
    code, _, stage, words = BAD[kind]
    if kind == "hanging_lifespan" and preload == "off":
        stage = "boot"  # from outside, a hanging import looks the same
    mgr = make_mgr("echo", workers=3, preload=preload, boot_timeout="3s", min_ready="300ms").start()
    with no_loss(*loads(mgr)):
        mgr.deploy_text(code)
        assert_refused(mgr, stage, words)
        assert_mended(mgr)


@PRELOAD
def test_a_worker_that_dies_after_being_ready_stops_the_reload(make_mgr, preload):
    mgr = make_mgr("echo", workers=3, preload=preload, min_ready="1s").start()
    with no_loss(*loads(mgr)):
        mgr.deploy_text(DYING)
        done = mgr.run("reload")
        assert done.returncode == 1
        assert "status 7" in done.stdout + done.stderr
        status = mgr.status()
        assert status["last_reload"]["ok"] is False and status["last_reload"]["stage"]
        assert {worker["generation"] for worker in status["workers"]} == {1}
        assert_mended(mgr)


@PRELOAD
def test_a_loop_that_blocks_after_its_start_is_rolled_back(make_mgr, preload):
    mgr = make_mgr("echo", workers=2, preload=preload, boot_timeout="4s", min_ready="1s").start()
    with no_loss(*loads(mgr)):
        mgr.deploy_text(with_startup(
            "import time\nasyncio.get_running_loop().call_later(0.1, time.sleep, 1000)"))
        assert_refused(mgr, "ready", ["worker 0 is blocked", "boot_timeout is 4 s", "most recent call first"])
        assert_mended(mgr)


@PRELOAD
def test_a_failure_in_the_middle_rolls_the_finished_slots_back(make_mgr, preload):
    mgr = make_mgr("echo", workers=4, preload=preload, min_ready="200ms").start()
    with no_loss(*loads(mgr)):
        mgr.deploy_text(with_startup(
            "with open('starts', 'a') as starts: starts.write('x')\n"
            "if os.path.getsize('starts') > 2:\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'the third start fails'})\n"
            "    return"
        ).replace('b"echo "', 'b"half "'))
        done = mgr.run("reload")
        assert done.returncode == 1 and "the third start fails" in done.stdout + done.stderr
        wait_for(lambda: {worker["generation"] for worker in mgr.workers()} == {1}, "one generation")
        assert {mgr.get("/x") for _ in range(40)} == {(200, b"echo /x")}
        assert_mended(mgr)


@pytest.mark.parametrize("kind", BAD)
@PRELOAD
def test_bad_code_at_first_start_ends_the_supervisor_with_its_status(make_mgr, kind, preload):
    code, status, _, words = BAD[kind]
    mgr = make_mgr("echo", workers=2, preload=preload, boot_timeout="2s")
    mgr.deploy_text(code)
    mgr.launch()
    assert mgr.wait_exit() == status, mgr.log
    for word in words:
        assert word in mgr.log
    last = mgr.log.strip().splitlines()[-1]
    assert "cannot start" in last and f"exit status {status}" in last, mgr.log


@PRELOAD
def test_a_lifespan_that_raises_is_fatal_where_lifespan_is_on_and_ignored_where_it_is_auto(make_mgr, preload):
    mgr = make_mgr("echo", workers=1, preload=preload, lifespan="on")
    mgr.deploy_text(with_startup('raise RuntimeError("pool not open")'))
    mgr.launch()
    assert mgr.wait_exit() == 3
    assert "pool not open" in mgr.log
    mgr.settings["lifespan"] = "auto"
    mgr.start()
    assert mgr.get("/x") == (200, b"echo /x")


def test_dying_workers_at_first_start_mean_back_off_and_degraded_and_no_end(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="1s", crash_backoff="200ms..1s")
    mgr.deploy_text(DYING)
    mgr.launch()
    wait_for(lambda: mgr.control.exists() and mgr.run("status").returncode == 0, "status answers",
             period=0.1)
    wait_for(lambda: mgr.status()["state"] == "degraded", "degraded", period=0.05)
    wait_for(lambda: "backoff" in {worker["state"] for worker in mgr.workers()}, "back-off")
    wait_for(lambda: mgr.run("ready").returncode == 1, "not ready")
    ready = mgr.run("ready")
    assert ready.returncode == 1 and ready.stderr.strip() or ready.stdout.strip()
    assert mgr.process.poll() is None
    last_exit = next(worker["last_exit"] for worker in mgr.workers() if worker["last_exit"])
    assert "7" in str(last_exit)
    mgr.deploy_text(MENDED)
    mgr.must("reload")
    mgr.wait_ready()
    wait_for(lambda: mgr.status()["state"] == "running", "running again")
    assert mgr.get("/x") == (200, b"mended /x")


def test_back_off_grows_and_is_bounded(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="1s", crash_backoff="100ms..400ms")
    mgr.deploy_text(with_startup(
        "import threading, time\n"
        "with open('starts', 'a') as starts: starts.write(f'{time.time()}\\n')\n"
        "threading.Timer(0.05, os._exit, [7]).start()"))
    mgr.launch()
    starts = mgr.directory / "starts"
    wait_for(lambda: starts.exists() and len(starts.read_text().split()) >= 8, "eight starts")
    times = [float(text) for text in starts.read_text().split()]
    pauses = [later - earlier for earlier, later in zip(times, times[1:])]
    assert pauses[0] < pauses[2] and max(pauses) < 2, pauses
