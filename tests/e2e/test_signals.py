"""Signals to the supervisor, terminals, and processes that the application starts."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from mgr_harness import MGR, Load, alive, no_loss, processes_with, read_response, wait_for


def pids(mgr):
    return {worker["pid"] for worker in mgr.workers()}


def test_hup_reloads_without_a_lost_request(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="100ms").start()
    generation = mgr.status()["generation"]
    with no_loss(Load(mgr, "new", 500), Load(mgr, "keep", 500, depth=4)):
        for turn in range(1, 4):
            mgr.process.send_signal(signal.SIGHUP)
            wait_for(lambda: mgr.status()["reloads"] == turn and mgr.status()["state"] == "running",
                     "reloaded")
    assert mgr.status()["generation"] == generation + 3


def test_a_hup_during_a_reload_is_obeyed_when_that_has_ended(make_mgr):
    mgr = make_mgr("echo", workers=1, min_ready="500ms").start()
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(lambda: mgr.status()["state"] == "reloading", "the first reload")
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(lambda: mgr.status()["reloads"] == 2, "the second one")
    assert mgr.status()["generation"] == 3
    assert "another follows it" in mgr.log


def in_flight(mgr):
    return sum(worker["in_flight"] for worker in mgr.status_now()["workers"])


def test_term_finishes_requests_in_flight_and_loses_none_of_them(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    with Load(mgr, "new", 100, path="/slow?1", verify=False) as load:
        wait_for(lambda: in_flight(mgr) >= 90, "a hundred in flight")
        load.process.terminate()
        wait_for(lambda: in_flight(mgr) < 80, "no new ones are sent", period=0.005)
        assert in_flight(mgr) > 0
        mgr.process.send_signal(signal.SIGTERM)
        report = load.result()
        assert mgr.wait_exit() == 0
    assert report["lost"] == 0, report
    assert "lifespan shutdown" in mgr.log


def test_a_second_term_is_quick(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?20 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: in_flight(mgr) == 1, "in flight")
        mgr.process.send_signal(signal.SIGTERM)
        wait_for(lambda: mgr.run("status").returncode != 0 or
                 mgr.status_now()["state"] in ("stopping", "draining"), "stopping")
        assert mgr.process.poll() is None
        began = time.monotonic()
        mgr.process.send_signal(signal.SIGTERM)
        mgr.wait_exit(10)
        assert time.monotonic() - began < 3


def test_a_stop_waits_for_no_keep_alive_timer(make_mgr):
    """Idle connections of a proxy are let go after a second, those of a worker that leaves too."""
    mgr = make_mgr("echo", workers=2, keep_alive="75s", min_ready="100ms").start()
    request = b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as connections:
        older = connections.enter_context(mgr.connect())
        older.sendall(request)
        read_response(older)
        mgr.must("reload")
        wait_for(lambda: len(mgr.status_now()["leaving"]) == 1, "only its worker is left")
        idle = connections.enter_context(mgr.connect())
        idle.sendall(request)
        read_response(idle)
        began = time.monotonic()
        mgr.process.send_signal(signal.SIGTERM)
        assert mgr.wait_exit(20) == 0
        assert 0.9 < time.monotonic() - began < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop_quickly(make_mgr, number):
    mgr = make_mgr("echo", workers=2).start()
    with mgr.connect() as connection:
        connection.sendall(b"GET /slow?20 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: in_flight(mgr) == 1, "in flight")
        began = time.monotonic()
        mgr.process.send_signal(number)
        mgr.wait_exit(10)
        assert time.monotonic() - began < 3


def test_ttin_and_ttou_scale_by_one_and_never_under_one(make_mgr):
    mgr = make_mgr("echo", workers=1).start()
    with no_loss(Load(mgr, "new", 300)):
        mgr.process.send_signal(signal.SIGTTIN)
        wait_for(lambda: [worker["state"] for worker in mgr.workers()] == ["ready"] * 2, "two")
        mgr.process.send_signal(signal.SIGTTOU)
        wait_for(lambda: len(mgr.workers()) == 1, "one")
        mgr.process.send_signal(signal.SIGTTOU)
        # Two that are pending at once come in the order of their numbers: TTIN would be the first.
        wait_for(lambda: mgr.log.count("SIGTTOU") == 2, "the second TTOU")
        mgr.process.send_signal(signal.SIGTTIN)
        wait_for(lambda: len(mgr.workers()) == 2, "two again: the second TTOU had no effect")


def test_a_stop_during_a_reload_stops(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="5s").start()
    mgr.process.send_signal(signal.SIGHUP)
    wait_for(lambda: mgr.status()["state"] == "reloading", "reloading")
    began = time.monotonic()
    mgr.process.send_signal(signal.SIGTERM)
    assert mgr.wait_exit(10) == 0
    assert time.monotonic() - began < 4


def test_a_supervisor_stopped_for_longer_than_every_timeout_kills_nothing_on_waking(make_mgr):
    mgr = make_mgr("echo", workers=2, boot_timeout="1s", graceful_timeout="1s", min_ready="200ms",
                   keep_alive="1s", header_timeout="1s").start()
    before = pids(mgr)
    with no_loss(Load(mgr, "new", 200), Load(mgr, "keep", 200, depth=2)):
        os.kill(mgr.pid, signal.SIGSTOP)
        time.sleep(3)  # the time that passes is what is tested
        os.kill(mgr.pid, signal.SIGCONT)
        assert pids(mgr) == before
        mgr.must("reload")
    assert [worker["restarts"] for worker in mgr.workers()] == [0, 0]


def test_a_supervisor_stopped_during_a_reload_finishes_it_after_waking(make_mgr):
    mgr = make_mgr("echo", workers=2, boot_timeout="2s", graceful_timeout="2s", min_ready="500ms").start()
    with no_loss(Load(mgr, "new", 200), Load(mgr, "keep", 200, depth=2)):
        mgr.process.send_signal(signal.SIGHUP)
        wait_for(lambda: mgr.status_now()["state"] == "reloading", "reloading", period=0.005)
        os.kill(mgr.pid, signal.SIGSTOP)
        time.sleep(4)  # the time that passes is what is tested
        os.kill(mgr.pid, signal.SIGCONT)
        wait_for(lambda: mgr.status()["state"] == "running", "running")
        assert mgr.status()["last_reload"]["ok"] is True


def test_workers_leave_when_the_supervisor_is_killed(make_mgr):
    mgr = make_mgr("echo", workers=3, graceful_timeout="3s").start()
    mgr.process.kill()
    mgr.wait_exit()
    mgr.assert_nothing_left()


# ---- terminals


@contextlib.contextmanager
def in_a_terminal(mgr, log_to_it=False):
    """mgr run as the foreground session of a pseudo-terminal; the master's descriptor."""
    master, slave = pty.openpty()

    def controlling_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    with open(mgr.log_path, "ab") as log:
        output = slave if log_to_it else log
        mgr.process = subprocess.Popen([MGR, *mgr.arguments()], cwd=mgr.directory,
                                       env=mgr.environment, stdin=slave, stdout=output, stderr=output,
                                       preexec_fn=controlling_terminal)
    os.close(slave)
    mgr.wait_ready()
    try:
        yield master
    finally:
        with contextlib.suppress(OSError):
            os.close(master)


def test_molds_and_workers_are_not_in_the_supervisors_process_group(make_mgr):
    mgr = make_mgr("echo", workers=2).start()
    others = set(processes_with(mgr.mark)) - {mgr.pid}
    assert pids(mgr) <= others
    assert all(os.getpgid(pid) != os.getpgid(mgr.pid) for pid in others)


def test_resizing_the_terminal_changes_nothing(make_mgr):
    mgr = make_mgr("echo", workers=2)
    with in_a_terminal(mgr) as master:
        before = pids(mgr)
        for rows in range(20, 30):
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        assert mgr.get("/x")[0] == 200
        assert pids(mgr) == before and mgr.status()["state"] == "running"


def test_ctrl_c_stops_and_workers_do_not_get_it(make_mgr):
    mgr = make_mgr("echo", workers=2)
    with in_a_terminal(mgr) as master:
        began = time.monotonic()
        os.write(master, b"\x03")
        mgr.wait_exit(10)
        assert time.monotonic() - began < 3
    assert "KeyboardInterrupt" not in mgr.log and "Traceback" not in mgr.log
    mgr.assert_nothing_left()


def test_a_hang_up_reaches_the_supervisor_alone(make_mgr):
    """Closing the terminal sends HUP to its foreground group: the supervisor reloads, as told."""
    mgr = make_mgr("echo", workers=2, min_ready="100ms")
    with in_a_terminal(mgr) as master:
        os.close(master)
        wait_for(lambda: mgr.status()["reloads"] == 1 and mgr.status()["state"] == "running",
                 "reloaded once")
        assert mgr.get("/x")[0] == 200
        assert [worker["restarts"] for worker in mgr.workers()] == [0, 0]


def test_a_log_whose_terminal_is_gone_ends_nothing(make_mgr):
    mgr = make_mgr("echo", workers=2, min_ready="100ms")
    with in_a_terminal(mgr, log_to_it=True) as master:
        os.close(master)
        wait_for(lambda: mgr.status()["reloads"] == 1 and mgr.status()["state"] == "running",
                 "reloaded once")
        assert mgr.get("/fail")[0] == 500
        mgr.must("reload")
        assert mgr.get("/x") == (200, b"echo /x")
        assert [worker["restarts"] for worker in mgr.workers()] == [0, 0]


def test_a_full_log_pipe_does_not_stop_the_service(make_mgr):
    """Nobody reads the pipe: records are dropped, requests are served, changes are made."""
    mgr = make_mgr("echo", workers=2, min_ready="100ms", log_level="debug")
    # What the application itself prints does wait: that is its own pipe.
    lines = (mgr.directory / "main.py").read_text().splitlines(keepends=True)
    mgr.deploy_text("".join(line for line in lines if "print(" not in line))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 65536)
    os.set_blocking(writer, True)
    mgr.process = subprocess.Popen([MGR, *mgr.arguments()], cwd=mgr.directory, env=mgr.environment,
                                   stdin=subprocess.DEVNULL, stdout=writer, stderr=writer)
    os.close(writer)
    try:
        mgr.wait_ready()
        mgr.must("reload")
        assert mgr.get("/fail")[0] == 500
        assert mgr.get("/x") == (200, b"echo /x")
        mgr.must("stop")
    finally:
        os.close(reader)


# ---- processes of the application


def test_a_child_left_behind_does_not_hold_connections_or_the_stop(make_mgr):
    mgr = make_mgr("processes", workers=1, min_ready="100ms").start()
    child = int(mgr.get("/child")[1])
    assert alive(child)
    with no_loss(Load(mgr, "new", 200)):
        mgr.must("reload")
    mgr.must("stop")
    assert mgr.wait_exit() == 0
    if alive(child):
        os.kill(child, signal.SIGKILL)


def test_orphans_of_the_application_are_reaped(make_mgr):
    mgr = make_mgr("processes", workers=1).start()
    orphans = [int(mgr.get("/orphan")[1]) for _ in range(5)]
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "no zombie is left")
    assert mgr.status()["state"] == "running"


def test_multiprocessing_in_a_handler_works(make_mgr):
    mgr = make_mgr("processes", workers=1).start()
    assert mgr.get("/pool") == (200, b"[0, 1, 4, 9, 16]")
    assert mgr.get("/asyncio") == (200, b"spoken 0")


def test_a_process_forked_in_a_handler_holds_no_connection_and_no_listener(make_mgr):
    """The fork has copies of every descriptor; the port and the client's connection must not live on
    in it after a reload."""
    mgr = make_mgr("processes", workers=2, min_ready="100ms").start()
    with mgr.connect() as connection:
        connection.sendall(b"GET /fork HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := connection.recv(65536):
            answer += data
    forked = int(answer.split(b"\r\n\r\n")[1])
    try:
        with no_loss(Load(mgr, "new", 300), Load(mgr, "keep", 300, depth=2)):
            mgr.must("reload")
            mgr.must("reload")
        assert alive(forked)
        links = [os.readlink(link) for link in Path(f"/proc/{forked}/fd").iterdir()]
        tcp = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        inodes = {line.split()[9] for line in tcp.splitlines()[1:]}
        held = [link for link in links if link.startswith("socket:[") and link[8:-1] in inodes]
        assert held == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(forked, signal.SIGKILL)
