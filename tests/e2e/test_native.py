"""C++ applications: what of mgr does for Python applications it does for them, and what is their own."""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from mgr_harness import Load, alive, no_loss, read_response, wait_for

LIBRARIES = Path(os.environ["BUILD_DIR"]) / "tests/e2e/native"
MEGABYTE = 1 << 20


@pytest.fixture
def make_native(make_mgr):
    """make_native("echo", workers=2, …): a Mgr with LIBRARIES/echo.so as its app.so."""
    def make(library="echo", target="app.so", **settings):
        mgr = make_mgr(target=target, **{"workers": 2, "min_ready": "100ms", **settings})
        (mgr.directory / "main.py").unlink()
        install(mgr, library)
        return mgr
    return make


def install(mgr, library):
    """As a build does it: a new file takes the name."""
    new = mgr.directory / "app.so.new"
    shutil.copyfile(LIBRARIES / f"{library}.so", new)
    new.rename(mgr.directory / "app.so")


def overwrite(mgr, library):
    """As `cp` does it: the file that was loaded is emptied and written over."""
    before = (mgr.directory / "app.so").stat().st_ino
    with open(mgr.directory / "app.so", "r+b") as file:
        file.truncate(0)
        file.flush()
        os.fsync(file.fileno())
        file.write((LIBRARIES / f"{library}.so").read_bytes())
    assert (mgr.directory / "app.so").stat().st_ino == before


def last_record(text):
    return [line for line in text.splitlines() if line.strip()][-1]


def peak_memory(pid):
    """VmHWM in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def test_a_library_is_served_and_told_of(make_native):
    mgr = make_native().start()
    assert mgr.get("/x") == (200, b"echo /x")
    assert "application loaded from app.so" in mgr.log
    assert mgr.status()["name"].startswith("app-")
    mgr.must("scale", 3)
    mgr.must("restart")
    assert len({mgr.get("/pid") for _ in range(60)}) == 3
    assert mgr.run("check", "app.so").returncode == 0


def test_sleeping_for_no_time_ends_where_nothing_else_happens(make_native):
    mgr = make_native(workers=1).start()
    began = time.monotonic()
    assert mgr.get("/yield") == (200, b"echo /yield")
    assert time.monotonic() - began < 4


def test_another_symbol_of_a_library_is_another_application(make_native):
    mgr = make_native(target="./app.so:second_application").start()
    assert mgr.get("/x") == (200, b"the second application")


def test_reloads_of_a_library_that_is_written_over_in_place_lose_nothing(make_native):
    """The old generation serves on from its own copy while the file is empty, then another."""
    mgr = make_native().start()
    with no_loss(Load(mgr, "new", 300), Load(mgr, "keep", 500, connections=16, depth=4)):
        for turn in range(6):
            overwrite(mgr, "echo_new" if turn % 2 == 0 else "echo")
            mgr.must("reload")
            greeting = b"new /x" if turn % 2 == 0 else b"echo /x"
            assert {mgr.get("/x") for _ in range(10)} == {(200, greeting)}
    assert mgr.status()["reloads"] == 6
    assert [worker["restarts"] for worker in mgr.workers()] == [0, 0]


@pytest.mark.parametrize("preload", ["on", "off"])
def test_a_reload_serves_the_new_library_and_only_it(make_native, preload):
    mgr = make_native(preload=preload).start()
    install(mgr, "echo_new")
    assert mgr.get("/x") == (200, b"echo /x")
    mgr.must("reload")
    assert {mgr.get("/x") for _ in range(40)} == {(200, b"new /x")}


REFUSALS = [
    ("echo", "app.so:nothing", "attribute: {app} has no symbol 'nothing'"),
    ("echo", "missing/app.so", "import: cannot load {directory}/missing/app.so: No such file"),
    ("echo", "./folder.so", "import: cannot load {directory}/./folder.so: not a file"),
    ("echo", "text.so", "import: cannot load {directory}/text.so: invalid ELF header"),
    ("undefined", "app.so", "import: cannot load {app}: undefined symbol: nobody_has_this"),
    ("other_abi", "app.so", "application: {app}:mgr_application is built for ABI 2 of mgr, and this "
                            "mgr has ABI 1"),
    ("other_abi", "app.so:not_one", "application: {app}:not_one is no application of mgr"),
    ("by_path", "app.so", "import: cannot load {app}: libneighbour.so: cannot open shared object"),
]


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("library, target, reason", REFUSALS)
def test_a_library_that_cannot_be_served_is_refused_in_one_line(make_native, library, target, reason,
                                                                 preload):
    mgr = make_native(library, target=target, preload=preload)
    (mgr.directory / "folder.so").mkdir()
    (mgr.directory / "text.so").write_text("this is no library, whatever its name says\n" * 100)
    reason = reason.format(app=mgr.directory / "app.so", directory=mgr.directory)
    mgr.launch()
    assert mgr.wait_exit() == 4
    assert reason in next(line for line in mgr.log.splitlines() if "cannot start" in line)
    checked = mgr.run("check", target)
    assert checked.returncode == 4 and reason in checked.stderr + checked.stdout


@pytest.mark.parametrize("interface, target, reason", [
    ("native", "main:app", "interface: native, but app: main:app is no library; allowed: path/to/lib.so"),
    ("asgi", "app.so", "app: app.so is a library, which only the interfaces auto and native can serve"),
])
def test_an_interface_that_does_not_fit_is_refused(make_native, interface, target, reason):
    mgr = make_native(target=target, interface=interface).launch()
    assert mgr.wait_exit() == 4
    assert reason in mgr.log


@pytest.mark.parametrize("library", ["undefined", "other_abi"])
def test_a_reload_with_a_library_that_cannot_be_served_leaves_the_old_one_serving(make_native, library):
    mgr = make_native().start()
    with no_loss(Load(mgr, "new", 200)):
        install(mgr, library)
        refused = mgr.run("reload")
    assert refused.returncode == 1
    assert str(mgr.directory / "app.so") in refused.stderr + refused.stdout
    assert mgr.get("/x") == (200, b"echo /x")
    status = mgr.status()
    assert status["state"] == "running" and status["last_reload"]["ok"] is False


def test_a_crash_in_it_ends_one_worker_which_is_replaced(make_native):
    mgr = make_native().start()
    before = {worker["pid"] for worker in mgr.workers()}
    with pytest.raises(OSError):
        mgr.get("/crash")

    def replaced():
        workers = mgr.status_now()["workers"]
        return len({worker["pid"] for worker in workers} - before) == 1 and \
            all(worker["state"] == "ready" for worker in workers)

    wait_for(replaced, "one worker is replaced")
    assert "killed by signal 6" in mgr.log
    assert {mgr.get("/x") for _ in range(20)} == {(200, b"echo /x")}


def test_what_the_startup_has_made_lives_until_the_shutdown(make_native):
    mgr = make_native(workers=1).start()
    assert mgr.get("/state") == (200, b"a database 1")
    assert mgr.get("/state") == (200, b"a database 2")
    assert "the database is closed" not in mgr.log
    mgr.must("stop")
    assert mgr.wait_exit() == 0
    assert mgr.log.count("the database is closed") == 1


def test_a_startup_that_fails_ends_the_first_start_with_3(make_native):
    mgr = make_native(env={"FAIL_STARTUP": "1"}).launch()
    assert mgr.wait_exit() == 3
    assert "lifespan: the application's start-up failed: no database here" in mgr.log
    assert "first line" in mgr.log


def test_an_exception_is_a_500_and_a_line_in_the_log(make_native):
    mgr = make_native().start()
    assert mgr.get("/throw?x")[0] == 500
    line = next(line for line in mgr.log.splitlines() if "thrown for a test" in line)
    assert "GET /throw?x: the application failed: std::runtime_error: thrown for a test" in line
    assert "[error]" in line


def test_200_megabytes_each_way_need_a_bounded_memory(make_native):
    mgr = make_native(workers=1).start()
    pid = int(mgr.get("/pid")[1])
    size = 200 * MEGABYTE
    with mgr.connect(seconds=60) as client:
        client.sendall(f"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        part = b"x" * MEGABYTE
        for _ in range(200):
            client.sendall(part)
        assert read_response(client).body == b"got %d" % size
        client.sendall(f"GET /download?{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = 0
        while data := client.recv(MEGABYTE):
            received += len(data)
    assert received > size
    assert int(mgr.get("/pid")[1]) == pid
    assert peak_memory(pid) < 24 * MEGABYTE


def test_a_client_that_stops_reading_stops_the_application(make_native):
    mgr = make_native(workers=1).start()
    pid = int(mgr.get("/pid")[1])
    with mgr.connect() as client:
        client.sendall(f"GET /download?{200 * MEGABYTE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.recv(1024)

        def still():
            before = Path(f"/proc/{pid}/stat").read_text().split()[13:15]
            time.sleep(0.2)
            return before == Path(f"/proc/{pid}/stat").read_text().split()[13:15]

        wait_for(still, "the worker waits for its client")
        assert mgr.get("/x") == (200, b"echo /x")
    assert peak_memory(pid) < 24 * MEGABYTE


@pytest.mark.parametrize(("path", "reset"), [("/watch", True), ("/watch", False), ("/download", True)])
def test_a_disconnect_ends_the_request_and_runs_destructors(make_native, tmp_path, path, reset):
    mgr = make_native(workers=1).start()
    trace = tmp_path / "trace"
    query = trace if path == "/watch" else 200 * MEGABYTE
    client = mgr.connect()
    client.sendall(f"GET {path}?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "the request runs")
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 0, "the request has ended")
    if path == "/watch":
        wait_for(trace.exists, "its destructors have run")
    assert "[error]" not in mgr.log


def test_a_request_that_outlasts_graceful_timeout_is_destroyed_where_it_stands(make_native, tmp_path):
    mgr = make_native(workers=1, graceful_timeout="300ms").start()
    trace = tmp_path / "trace"
    with mgr.connect() as client:
        client.sendall(f"GET /hang?{trace} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "the request runs")
        assert not trace.exists()
        mgr.must("stop")
    assert mgr.wait_exit() == 0
    assert trace.read_text() == "destroyed\n"
    assert "requests cut, as graceful_timeout is over: 1" in mgr.log
    assert "the database is closed" in mgr.log


def test_an_offload_that_does_not_end_does_not_keep_the_worker(make_native):
    mgr = make_native(workers=1, graceful_timeout="300ms").start()
    pid = int(mgr.get("/pid")[1])
    with mgr.connect() as client:
        client.sendall(b"GET /block HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: mgr.status_now()["workers"][0]["in_flight"] == 1, "the request runs")
        began = time.monotonic()
        mgr.must("stop")
    assert mgr.wait_exit() == 0 and not alive(pid)
    assert time.monotonic() - began < 5
    assert "ended without waiting for what still runs: offload() of the application" in mgr.log


def test_requests_in_flight_are_finished_by_a_worker_that_leaves(make_native):
    mgr = make_native().start()
    with no_loss(Load(mgr, "new", 50, path="/slow?700", verify=False, expect_body_prefix="echo /slow")):
        mgr.must("reload")
        mgr.must("reload")


def test_a_thread_left_by_loading_means_that_each_worker_loads(make_native):
    mgr = make_native("thread_at_load").start()
    assert "loading the application left open: thread 'reporter'" in mgr.log
    assert {mgr.get("/x") for _ in range(10)} == {(200, b"the thread runs")}


def test_chdir_env_and_env_file_apply_before_the_library_is_loaded(make_native, tmp_path):
    neighbours = tmp_path / "neighbours"
    neighbours.mkdir()
    shutil.copyfile(LIBRARIES / "libneighbour.so", neighbours / "libneighbour.so")
    mgr = make_native("by_path", target="inner/app.so", chdir="..")
    (mgr.directory.parent / "inner").mkdir()
    (mgr.directory / "app.so").rename(mgr.directory.parent / "inner" / "app.so")
    (mgr.directory.parent / "app.env").write_text(f"LD_LIBRARY_PATH={neighbours}\n")
    mgr.settings["env_file"] = "app.env"
    mgr.start()
    assert mgr.get("/x") == (200, b"neighbour")


def test_env_wins_over_the_environment(make_native):
    mgr = make_native(env={"COLOUR": "red"})
    mgr.settings["env"] = "COLOUR=green"
    mgr.start()
    assert mgr.get("/environment?COLOUR") == (200, b"green")


def test_a_library_finds_its_neighbours_by_origin(make_native):
    mgr = make_native("by_origin")
    shutil.copyfile(LIBRARIES / "libneighbour.so", mgr.directory / "libneighbour.so")
    mgr.start()
    assert mgr.get("/x") == (200, b"neighbour")


def test_a_quick_stop_leaves_nothing_behind(make_native):
    mgr = make_native().start()
    with mgr.connect() as client:
        client.sendall(b"GET /hang?/dev/null HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: sum(w["in_flight"] for w in mgr.status_now()["workers"]) == 1, "it runs")
        mgr.process.send_signal(signal.SIGINT)
        assert mgr.wait_exit(10) == 0
