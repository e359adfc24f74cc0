"""Unix sockets and inherited sockets: one socket that all workers share."""

import os
import socket
import stat
import subprocess
import sys

import pytest
from mgr_harness import Load, no_loss, read_response, wait_for

# Starts what follows as systemd would: the listening sockets from descriptor 3 on, and the variables.
STARTER = """
import os, socket, sys
kind, count, *command = sys.argv[1:]
listeners = []
for _ in range(int(count)):
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listeners.append(listener)
for target, listener in enumerate(listeners, 3):
    os.dup2(os.dup(listener.fileno()), target + 40)
for target in range(3, 3 + len(listeners)):
    os.dup2(target + 40, target, inheritable=True)
    os.close(target + 40)
if kind == "systemd":
    os.environ["LISTEN_FDS"] = count
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(command[0], command)
"""


def get(path, target="/echo/x"):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return read_response(connection)


def reload_scale_restart(mgr):
    mgr.must("reload")
    mgr.must("scale", 4)
    mgr.must("restart")
    mgr.must("scale", 1)
    mgr.must("reload")


def test_a_unix_socket_loses_nothing_by_reload_scale_and_restart(make_mgr, tmp_path):
    path = tmp_path / "app.sock"
    mgr = make_mgr("echo", workers=2, bind=f"unix:{path}", min_ready="200ms").start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    listener = mgr.status()["listeners"][0]
    assert listener["address"] == f"unix:{path}" and listener["balance"] == "shared"
    with no_loss(Load(unix=path, mode="new", rate=1000),
                 Load(unix=path, mode="keep", rate=1000, connections=16, depth=4)):
        for _ in range(3):
            reload_scale_restart(mgr)
    mgr.must("stop")
    assert not path.exists()


def test_every_worker_gets_a_share_of_a_unix_socket(make_mgr, tmp_path):
    path = str(tmp_path / "app.sock")
    mgr = make_mgr("echo", workers=4, bind=f"unix:{path}").start()
    seen = [int(get(path, "/pid").body) for _ in range(200)]
    shares = {worker["pid"]: seen.count(worker["pid"]) for worker in mgr.workers()}
    assert min(shares.values()) >= 10, shares


def test_the_mode_of_a_unix_socket_is_the_setting(make_mgr, tmp_path):
    path = tmp_path / "app.sock"
    make_mgr("echo", workers=1, bind=f"unix:{path}", socket_mode="0600").start()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_stale_unix_socket_is_replaced_and_a_file_is_not(make_mgr, tmp_path):
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    mgr = make_mgr("echo", workers=1, bind=f"unix:{path}").start()
    assert get(str(path)).body == b"echo /echo/x"
    mgr.must("stop")
    path.write_text("precious")
    refused = make_mgr("echo", workers=1, bind=f"unix:{path}").launch()
    assert refused.wait_exit() == 1 and str(path) in refused.log
    assert path.read_text() == "precious"


def test_an_abstract_socket_is_served(make_mgr):
    name = f"mgr-e2e-{os.getpid()}"
    mgr = make_mgr("echo", workers=2, bind=f"unix:@{name}", min_ready="100ms").start()
    assert get(f"\0{name}").body == b"echo /echo/x"
    with no_loss(Load(unix=f"@{name}", mode="new", rate=500)):
        mgr.must("reload")


def test_a_unix_client_has_no_address_and_the_path_is_the_server(make_mgr, tmp_path):
    path = str(tmp_path / "app.sock")
    make_mgr("echo", workers=1, bind=f"unix:{path}").start()
    scope = get(path, "/scope").body.decode()
    assert "'client': None" in scope
    assert repr(path) in scope


def test_several_addresses_at_once(make_mgr, tmp_path):
    path = tmp_path / "app.sock"
    mgr = make_mgr("echo", workers=2, bind=["127.0.0.1:0", "[::1]:0", f"unix:{path}"],
                   min_ready="100ms").start()
    listeners = [listener["address"] for listener in mgr.status()["listeners"]]
    assert len(listeners) == 3
    v6 = next(address for address in listeners if address.startswith("[::1]:"))
    with no_loss(Load(mgr, "new", 300), Load(connect=v6, mode="new", rate=300),
                 Load(unix=path, mode="new", rate=300)):
        mgr.must("reload")
        mgr.must("scale", 1)


def inherited(make_mgr, kind, count, **settings):
    starter = [sys.executable, "-c", STARTER, kind, str(count)]
    return make_mgr("echo", workers=2, min_ready="100ms", command_prefix=starter, **settings).start()


def test_a_socket_passed_by_the_service_manager_is_served_as_shared(make_mgr):
    mgr = inherited(make_mgr, "systemd", 1, bind=None)
    listeners = mgr.status()["listeners"]
    assert listeners[0]["balance"] == "shared", listeners
    with no_loss(Load(mgr, "new", 500), Load(mgr, "keep", 500, depth=4)):
        reload_scale_restart(mgr)


def test_two_sockets_passed_by_the_service_manager(make_mgr):
    mgr = inherited(make_mgr, "systemd", 2, bind=None)
    addresses = [listener["address"] for listener in mgr.status()["listeners"]]
    assert len(addresses) >= 2
    with no_loss(*[Load(connect=address, mode="new", rate=200) for address in addresses[:2]]):
        mgr.must("reload")


def test_an_inherited_descriptor_is_served(make_mgr):
    mgr = inherited(make_mgr, "plain", 1, bind="fd://3")
    listener = mgr.status()["listeners"][0]
    assert listener["balance"] == "shared"
    port = None
    for line in open("/proc/net/tcp").read().splitlines()[1:]:
        fields = line.split()
        inode = f"socket:[{fields[9]}]"
        if fields[3] == "0A" and inode == os.readlink(f"/proc/{mgr.pid}/fd/3"):
            port = int(fields[1].split(":")[1], 16)
    assert port is not None
    with no_loss(Load(connect=f"127.0.0.1:{port}", mode="new", rate=500)):
        mgr.must("reload")


def test_a_descriptor_that_is_no_listening_socket_is_refused(make_mgr):
    mgr = make_mgr("echo", workers=1, bind="fd://9").launch()
    assert mgr.wait_exit() == 1
    assert "fd://9" in mgr.log.strip().splitlines()[-1]


@pytest.mark.parametrize("workers", [2, 4])
def test_a_killed_worker_does_not_take_the_queue_of_a_unix_socket_with_it(make_mgr, tmp_path, workers):
    path = tmp_path / "app.sock"
    mgr = make_mgr("echo", workers=workers, bind=f"unix:{path}").start()
    with Load(unix=path, mode="new", rate=500, timeout=5) as load:
        for _ in range(3):
            victim = mgr.workers()[0]["pid"]
            subprocess.run(["kill", "-KILL", str(victim)], check=True)
            wait_for(lambda: victim not in [worker["pid"] for worker in mgr.workers()] and
                     all(worker["state"] == "ready" for worker in mgr.workers()), "replaced", 15)
        report = load.stop()
    assert report["timed_out"] == 0 and report["refused"] == 0 and report["connect_error"] == 0
    assert report["lost"] <= 3 * 8
