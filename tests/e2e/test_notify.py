"""What mgr says to a service manager, and what it takes from one: to a stand-in that speaks the
protocols as documented (sd_notify(3), sd_listen_fds(3)), and to systemd-socket-activate.

What systemd makes of it is in test_systemd.py.
"""

import fcntl
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
TAKEN = {"FDSTORE", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
         "LISTEN_FDNAMES"}


class ServiceManager:
    """The reading end of $NOTIFY_SOCKET: each message as a dictionary, with its sender; and the
    descriptor store, from which a service that starts again gets everything back."""

    def __init__(self, address):
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.messages, self.senders, self.store = [], set(), {}

    def receive(self, seconds=20):
        self.socket.settimeout(seconds)
        data, ancillary, flags, _ = self.socket.recvmsg(
            65536, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4))
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        message = dict(line.split("=", 1) for line in data.decode().rstrip("\n").split("\n"))
        for _, kind, content in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                self.senders.add(struct.unpack("iII", content)[0])
            else:
                assert kind == socket.SCM_RIGHTS and message["FDSTORE"] == "1"
                self.keep(message["FDNAME"], *struct.unpack("i", content))
        if "FDSTOREREMOVE" in message:
            os.close(self.store.pop(message["FDNAME"]))
        self.messages.append(message)
        return message

    def keep(self, name, descriptor):
        assert 0 < len(name) <= 255 and ":" not in name and name.isascii() and name.isprintable()
        if name in self.store:
            assert os.path.sameopenfile(self.store[name], descriptor)
            os.close(descriptor)
        else:
            self.store[name] = descriptor

    def close(self):
        for descriptor in self.store.values():
            os.close(descriptor)
        self.socket.close()

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
    stand_in.close()


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
    mgr = make_mgr(workers=1, env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "60000000", "FDSTORE": "9",
                                   "LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"})
    mgr.deploy_text(ENVIRONMENT)
    mgr.start()
    names = set(mgr.get()[1].decode().split())
    assert MARK in names and not names & TAKEN


# ---- descriptors


def with_descriptors(mgr, named):
    """Starts it with these as systemd passes them: from number 3, $LISTEN_FDS and its companions."""
    # None may have a number that another goes to.
    passed = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 200) for _, descriptor in named]
    redirections = " ".join(f"{3 + i}<&{number} {number}<&-" for i, number in enumerate(passed))
    names = ":".join(name for name, _ in named)
    script = (f"export LISTEN_FDS={len(named)} LISTEN_PID=$$ LISTEN_FDNAMES='{names}'; "
              f'exec "$@" {redirections}')
    mgr.command_prefix = ["bash", "-c", script, "bash"]
    mgr.launch(pass_fds=passed)
    for number in passed:
        os.close(number)
    return mgr


def with_descriptor(mgr, listener, name="http"):
    return with_descriptors(mgr, [(name, listener.fileno())])


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


def test_a_socket_that_is_named_admin_is_the_admin_listener(make_mgr, manager):
    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("::1", 0),
                                                                   family=socket.AF_INET6) as admin:
        mgr = make_mgr(workers=1, bind=None, env={"NOTIFY_SOCKET": manager.address})
        with_descriptors(mgr, [("admin", admin.fileno()), ("other", http.fileno())])
        manager.until("READY")
        assert [entry["address"] for entry in mgr.status()["listeners"]] == [
            f"127.0.0.1:{http.getsockname()[1]}"]
        with socket.create_connection(admin.getsockname()[:2]) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_response(connection).body == b"ok\n"
    mgr.must("stop")


# ---- the descriptor store


def with_store(make_mgr, manager, **settings):
    """A Mgr whose service manager keeps descriptors; again() starts it as after its end."""
    return make_mgr(**{"workers": 2, "min_ready": "100ms", "bind": f"127.0.0.1:{free_port()}",
                       "env": {"NOTIFY_SOCKET": manager.address, "FDSTORE": "64"}, **settings})


def again(mgr, manager):
    """systemd promises no order."""
    manager.rest()
    with_descriptors(mgr, sorted(manager.store.items(), reverse=True))
    manager.until("READY")


def names(mgr, slots, bind=None):
    return {f"mgr-{slot}-0-{(bind or mgr.settings['bind']).replace(':', '%3A')}" for slot in range(slots)}


def socket_numbers(manager):
    return {name: os.fstat(descriptor).st_ino for name, descriptor in manager.store.items()}


def kill_everything(mgr):
    """As systemd does once the main process is gone. Stopped processes stay so till they are dead: the
    kernel would wake them when their supervisor dies (an orphaned process group gets SIGCONT), and they
    would take connections with them into the grave."""
    mgr.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: stopped(mgr.process.pid), "stopped")
    mgr.kill_left()
    mgr.wait_exit()
    wait_for(lambda: not mgr.kill_left(), "nothing is left")


REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def ask(mgr, count):
    """So many connections with a request, which wait in the queues of the listening sockets."""
    def connected():
        bind = mgr.settings["bind"]
        if not bind.startswith("unix:"):
            host, port = bind.split(":")
            return socket.create_connection((host, int(port)), timeout=20)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        name = bind.removeprefix("unix:")
        connection.connect("\0" + name[1:] if name.startswith("@") else name)
        return connection

    connections = [connected() for _ in range(count)]
    for connection in connections:
        connection.sendall(REQUEST)
    return connections


def stop_accepting(mgr):
    for worker in mgr.workers():
        os.kill(worker["pid"], signal.SIGSTOP)
        wait_for(lambda pid=worker["pid"]: stopped(pid), "stopped")


def assert_served(connections):
    for connection in connections:
        with connection:
            assert read_response(connection).body == b"echo /x"


@pytest.mark.parametrize("workers", [2, 1, 4])
def test_connections_in_the_queues_are_served_after_the_supervisor_was_killed(make_mgr, manager,
                                                                             workers):
    """Also by fewer workers, or more, than before."""
    mgr = with_store(make_mgr, manager)
    with_descriptors(mgr, [])
    manager.until("READY")
    manager.rest()
    assert set(manager.store) == names(mgr, 2)
    stop_accepting(mgr)
    queued = ask(mgr, 40)
    kill_everything(mgr)
    queued += ask(mgr, 20)
    mgr.settings["workers"] = workers
    again(mgr, manager)
    assert_served(queued)
    assert len(mgr.status()["listeners"]) == 1
    if workers > 1:  # the steering is that of before: each worker gets its share
        assert_served(ask(mgr, 100))
        assert all(worker["requests"] > 0 for worker in mgr.workers())
    mgr.must("scale", 3)
    assert_served(ask(mgr, 50))
    mgr.must("scale", 1)
    assert_served(ask(mgr, 50))
    manager.rest()
    assert set(manager.store) == names(mgr, max(3, workers))


@pytest.mark.parametrize("bind", ["unix:{}/http.sock", "unix:@mgr{}"])
def test_so_are_those_of_a_unix_socket(make_mgr, manager, tmp_path, bind):
    mgr = with_store(make_mgr, manager, bind=bind.format(tmp_path))
    with_descriptors(mgr, [])
    manager.until("READY")
    manager.rest()
    assert set(manager.store) == {f"mgr-0-0-{mgr.settings['bind'].replace(':', '%3A')}"}
    stop_accepting(mgr)
    queued = ask(mgr, 20)
    kill_everything(mgr)
    queued += ask(mgr, 20)
    again(mgr, manager)
    assert_served(queued)
    assert_served(ask(mgr, 20))


def test_a_restart_refuses_no_connection_of_a_unix_socket(make_mgr, manager, tmp_path):
    path = tmp_path / "http.sock"
    mgr = with_store(make_mgr, manager, bind=f"unix:{path}")
    with_descriptors(mgr, [])
    manager.until("READY")
    with no_loss(Load(unix=path, rate=100)):
        for _ in range(3):
            mgr.process.terminate()
            assert mgr.wait_exit() == 0
            assert path.is_socket()
            again(mgr, manager)


def test_a_unix_socket_whose_directory_was_made_anew_is_bound_anew(make_mgr, manager, tmp_path):
    """systemd removes a RuntimeDirectory with the service, unless RuntimeDirectoryPreserve says else."""
    directory = tmp_path / "runtime"
    directory.mkdir()
    mgr = with_store(make_mgr, manager, bind=f"unix:{directory}/http.sock")
    with_descriptors(mgr, [])
    manager.until("READY")
    manager.rest()
    mgr.process.terminate()
    mgr.wait_exit()
    shutil.rmtree(directory)
    directory.mkdir()
    before = socket_numbers(manager)
    again(mgr, manager)
    assert_served(ask(mgr, 20))
    manager.rest()
    assert socket_numbers(manager).keys() == before.keys()
    assert not set(socket_numbers(manager).values()) & set(before.values())


def test_a_restart_refuses_no_connection(make_mgr, manager):
    mgr = with_store(make_mgr, manager)
    with_descriptors(mgr, [])
    manager.until("READY")
    with no_loss(Load(connect=mgr.settings["bind"], rate=100)):
        for _ in range(3):
            mgr.process.terminate()
            assert mgr.wait_exit() == 0
            again(mgr, manager)


def test_what_bind_does_not_name_any_more_is_taken_from_the_store(make_mgr, manager):
    mgr = with_store(make_mgr, manager)
    with_descriptors(mgr, [])
    manager.until("READY")
    manager.rest()
    before = mgr.settings["bind"]
    mgr.process.terminate()
    mgr.wait_exit()
    mgr.settings["bind"] = f"127.0.0.1:{free_port()}"
    again(mgr, manager)
    manager.rest()
    assert set(manager.store) == names(mgr, 2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(before.split(":"))


def test_nothing_is_given_to_a_service_manager_that_keeps_nothing(make_mgr, manager):
    mgr = with_store(make_mgr, manager, env={"NOTIFY_SOCKET": manager.address})
    mgr.launch()
    manager.until("READY")
    manager.rest()
    assert not [message for message in manager.messages if "FDNAME" in message]


def test_a_store_that_is_too_small_gets_what_fits_and_the_log_says_so(make_mgr, manager):
    mgr = with_store(make_mgr, manager, workers=4,
                     env={"NOTIFY_SOCKET": manager.address, "FDSTORE": "3"})
    with_descriptors(mgr, [])
    manager.until("READY")
    manager.rest()
    assert set(manager.store) == names(mgr, 3)
    assert mgr.log.count("keeps no more than 3 descriptors (FileDescriptorStoreMax)") == 1
    kill_everything(mgr)
    again(mgr, manager)
    assert_served(ask(mgr, 100))


# ---- upgrades


def test_an_upgrade_is_a_reload_of_the_same_process(make_mgr, manager):
    mgr = with_store(make_mgr, manager, env={"NOTIFY_SOCKET": manager.address, "FDSTORE": "64",
                                             "WATCHDOG_USEC": "1000000"})
    mgr.launch()
    manager.until("READY")
    mgr.must("upgrade")
    manager.until("RELOADING")
    ready = manager.until("READY")
    assert ready == {"READY": "1", "MAINPID": str(mgr.pid), "STATUS": "2 workers, generation 2"}
    manager.until("WATCHDOG")
    assert manager.senders == {mgr.pid}
    assert set(manager.store) == names(mgr, 2)
    kept = [message for message in manager.messages if "FDSTORE" in message]
    mgr.must("scale", 3)
    manager.until("FDSTORE")
    assert len(kept) == 2 and set(manager.store) == names(mgr, 3)
