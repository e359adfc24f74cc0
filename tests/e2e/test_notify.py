"""What mgr says to a service manager, and what it takes from one: to a stand-in that speaks the
protocols as documented (sd_notify(3), sd_listen_fds(3)), and to systemd-socket-activate.

What systemd makes of it is in test_systemd.py.
"""

import os
import shutil
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from mgr_harness import MARK, Load, free_port, no_loss, read_response, wait_for

ENVIRONMENT = """
import os
SEEN = sorted(os.environ)

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": " ".join(SEEN).encode()})
"""
TAKEN = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
         "LISTEN_FDNAMES"}


class ServiceManager:
    """The reading end of $NOTIFY_SOCKET: each message as a dictionary, with its sender."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.messages, self.senders = [], set()

    def receive(self, seconds=20):
        self.socket.settimeout(seconds)
        data, ancillary, flags, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(12))
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        [(_, kind, credentials)] = ancillary
        assert kind == socket.SCM_CREDENTIALS
        self.senders.add(struct.unpack("iII", credentials)[0])
        message = dict(line.split("=", 1) for line in data.decode().rstrip("\n").split("\n"))
        self.messages.append(message)
        return message

    def until(self, name, seconds=20):
        """The next message with this assignment; those before it are kept in `messages`."""
        deadline = time.monotonic() + seconds
        while True:
            message = self.receive(max(0.01, deadline - time.monotonic()))
            if name in message:
                return message

    def rest(self):
        """All that has come."""
        came = []
        while True:
            try:
                came.append(self.receive(0.001))
            except TimeoutError:
                return came


@pytest.fixture
def manager(tmp_path):
    stand_in = ServiceManager(str(tmp_path / "notify"))
    yield stand_in
    stand_in.socket.close()


def stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def started(make_mgr, manager, app="echo", **settings):
    env = {"NOTIFY_SOCKET": manager.address, **settings.pop("env", {})}
    return make_mgr(app, workers=2, min_ready="100ms", env=env, **settings).launch()


def test_ready_is_said_when_requests_are_answered_and_by_the_supervisor_alone(make_mgr, manager):
    mgr = started(make_mgr, manager)
    first = manager.receive()
    assert first == {"STATUS": "starting", "EXTEND_TIMEOUT_USEC": "182000000"}
    ready = manager.until("READY")
    assert mgr.get("/x") == (200, b"echo /x")
    assert ready == {"READY": "1", "MAINPID": str(mgr.pid), "STATUS": "2 workers, generation 1"}
    assert manager.senders == {mgr.pid}


def test_an_abstract_socket_is_told_too(make_mgr, tmp_path):
    manager = ServiceManager(f"@mgr-notify-{os.getpid()}")
    started(make_mgr, manager)
    manager.until("READY")


def test_a_reload_is_told_at_its_begin_and_at_its_end(make_mgr, manager):
    mgr = started(make_mgr, manager)
    manager.until("READY")
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    mgr.must("reload")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    begin = manager.until("RELOADING")
    assert before <= int(begin["MONOTONIC_USEC"]) <= after
    assert begin["STATUS"] == "2 workers, generation 1; reloading"
    assert manager.until("READY")["STATUS"] == "2 workers, generation 2"
    mgr.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING")
    manager.until("READY")


def test_a_reload_that_is_rolled_back_is_ready_again_and_says_why(make_mgr, manager):
    mgr = started(make_mgr, manager)
    manager.until("READY")
    mgr.deploy_text("raise ValueError('first line\\nREADY=0')")
    assert mgr.run("reload").returncode == 1
    manager.until("RELOADING")
    status = manager.until("READY")["STATUS"]
    assert status.startswith("2 workers, generation 1; last reload rolled back: import: ")
    assert "first line" in status
    assert all(message.get("READY", "1") == "1" for message in manager.messages)


def test_a_reload_that_is_refused_is_told_too(make_mgr, manager):
    mgr = make_mgr(workers=2, env={"NOTIFY_SOCKET": manager.address})
    (mgr.directory / "mgr.yaml").write_text("keep_alive: 5s\n")
    mgr.launch()
    manager.until("READY")
    (mgr.directory / "mgr.yaml").write_text("keep_alive: sometimes\n")
    mgr.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING")
    assert "last reload refused: configuration: " in manager.until("READY")["STATUS"]


def test_the_status_follows_scale_and_crash(make_mgr, manager):
    mgr = started(make_mgr, manager)
    manager.until("READY")
    mgr.must("scale", 3)
    wait_for(lambda: manager.until("STATUS")["STATUS"] == "3 workers, generation 1", "3 workers")
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    assert manager.until("STATUS")["STATUS"] == "2 of 3 workers, generation 1"
    assert manager.until("STATUS")["STATUS"] == "3 workers, generation 1"


def test_a_stop_is_told_with_the_time_it_may_take_and_is_the_last_word(make_mgr, manager):
    mgr = started(make_mgr, manager, graceful_timeout="90s", drain_delay="200ms")
    manager.until("READY")
    mgr.process.terminate()
    stopping = manager.until("STOPPING")
    assert stopping["STOPPING"] == "1" and stopping["EXTEND_TIMEOUT_USEC"] == "95200000"
    assert mgr.wait_exit() == 0
    assert manager.rest() == []


def test_a_first_start_that_fails_is_never_ready_and_says_why(make_mgr, manager):
    mgr = make_mgr(workers=2, env={"NOTIFY_SOCKET": manager.address})
    mgr.deploy_text("import nothing_of_this_name")
    mgr.launch()
    assert mgr.wait_exit() == 4
    manager.rest()
    assert not [message for message in manager.messages if "READY" in message]
    last = manager.messages[-1]
    assert last["STOPPING"] == "1" and last["STATUS"].startswith("cannot start: import: ")


def test_a_watchdog_hears_of_it_twice_in_each_period_until_it_hangs(make_mgr, manager):
    mgr = started(make_mgr, manager, env={"WATCHDOG_USEC": "2000000"})
    manager.until("READY")
    at = []
    for _ in range(4):
        manager.until("WATCHDOG")
        at.append(time.monotonic())
    assert all(later - earlier < 2 for earlier, later in zip(at, at[1:], strict=False))
    mgr.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: stopped(mgr.pid), "stopped")
    manager.rest()
    with pytest.raises(TimeoutError):
        manager.until("WATCHDOG", seconds=2.5)
    mgr.process.send_signal(signal.SIGCONT)
    manager.until("WATCHDOG")


def test_a_watchdog_meant_for_another_process_is_not_fed(make_mgr, manager):
    started(make_mgr, manager, env={"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    manager.until("READY")
    with pytest.raises(TimeoutError):
        manager.until("WATCHDOG", seconds=0.5)


def test_a_service_manager_that_is_gone_costs_one_line_of_the_log(make_mgr, manager, tmp_path):
    mgr = started(make_mgr, manager)
    manager.until("READY")
    manager.socket.close()
    os.unlink(manager.address)
    mgr.must("reload")
    mgr.must("reload")
    assert mgr.get("/x") == (200, b"echo /x")
    assert mgr.log.count("the service manager could not be notified") == 1


def test_a_service_manager_that_does_not_read_holds_nothing_up(make_mgr, manager):
    mgr = started(make_mgr, manager)
    manager.until("READY")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                filler.sendto(b"X=1", manager.address)
    with no_loss(Load(mgr, rate=200)):
        mgr.must("reload")
    manager.until("RELOADING")
    assert manager.until("READY")["STATUS"] == "2 workers, generation 2"


def test_the_application_sees_none_of_the_protocol(make_mgr, manager):
    mgr = make_mgr(workers=1, env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000",
                                   "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"})
    mgr.deploy_text(ENVIRONMENT)
    mgr.start()
    names = set(mgr.get()[1].decode().split())
    assert MARK in names and not names & TAKEN


# ---- descriptors


def with_descriptor(mgr, listener):
    """Starts it with this socket as systemd passes one: number 3, $LISTEN_FDS, $LISTEN_PID."""
    script = ("export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=http; "
              f'exec "$@" 3<&{listener.fileno()}')
    mgr.command_prefix = ["bash", "-c", script, "bash"]
    return mgr.launch(pass_fds=(listener.fileno(),))


def test_a_socket_that_the_service_manager_keeps_loses_nothing_over_a_restart(make_mgr, manager):
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        mgr = make_mgr(workers=2, bind=None, env={"NOTIFY_SOCKET": manager.address})
        with_descriptor(mgr, listener)
        manager.until("READY")
        with no_loss(Load(connect=f"127.0.0.1:{port}", rate=100)):
            for _ in range(3):
                mgr.process.terminate()
                assert mgr.wait_exit() == 0
                manager.rest()
                with_descriptor(mgr, listener)
                manager.until("READY")
        assert [entry["address"] for entry in mgr.status()["listeners"]] == [f"127.0.0.1:{port}"]


def test_sockets_meant_for_another_process_are_left_alone(make_mgr, manager):
    mgr = started(make_mgr, manager, bind=f"127.0.0.1:{free_port()}",
                  env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    manager.until("READY")
    assert [entry["address"] for entry in mgr.status()["listeners"]] == [mgr.settings["bind"]]


def test_systemd_socket_activate_starts_it_with_the_first_connection(make_mgr, manager):
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("systemd-socket-activate is not installed")
    port = free_port()
    mgr = make_mgr(workers=1, bind=None, env={"NOTIFY_SOCKET": manager.address})
    mgr.command_prefix = [program, "-l", f"127.0.0.1:{port}",
                          *(f"--setenv={name}" for name in ("NOTIFY_SOCKET", MARK)), "--"]
    mgr.deploy_text(ENVIRONMENT)
    mgr.launch()
    listening = f"Listening on 127.0.0.1:{port}"
    wait_for(lambda: listening in mgr.log, "systemd-socket-activate listens")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        names = set(read_response(connection).body.decode().split())
    manager.until("READY")
    assert MARK in names and not names & TAKEN
