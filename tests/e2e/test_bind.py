"""Addresses: several, both families, and others by a reload, without losing a connection; `balance`."""

import socket
import subprocess
import threading
import time
import uuid

import pytest
from mgr_harness import (Load, assert_none_lost, free_port, no_loss, processes_with, read_response,
                         wait_for)
from network_harness import namespaces_are_possible, sh


class Configured:
    """A Mgr whose `bind` stands in a file, so that a reload can change it."""

    def __init__(self, make_mgr, tmp_path, bind, **settings):
        self.file = tmp_path / "mgr.yaml"
        self.write(bind)
        self.mgr = make_mgr("echo", bind=None, config=self.file,
                            **{"workers": 2, "min_ready": "100ms", **settings}).start()

    def write(self, bind):
        self.file.write_text("bind: [" + ", ".join(f'"{each}"' for each in bind) + "]\n")

    def reload(self, *bind):
        self.write(bind)
        return self.mgr.run("reload")

    def addresses(self):
        return [listener["address"] for listener in self.mgr.status_now()["listeners"]]


@pytest.fixture
def configured(make_mgr, tmp_path):
    return lambda bind, **settings: Configured(make_mgr, tmp_path, bind, **settings)


def ask(address, path="/echo/x", timeout=10):
    """One request on a connection of its own; raises what connect() does."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return read_response(connection)


def is_refused(address):
    try:
        ask(address, timeout=2)
    except (ConnectionRefusedError, TimeoutError):
        return True
    return False


class Clients:
    """Connect as fast as they can, until they are refused; whoever was connected must be answered."""

    def __init__(self, address, count=4):
        host, port = address.rsplit(":", 1)
        self.address, self.answered, self.problems = (host, int(port)), 0, []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            try:
                connection = socket.create_connection(self.address, timeout=20)
            except ConnectionRefusedError:
                return
            with connection:
                try:
                    connection.sendall(b"GET /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    assert read_response(connection).body == b"echo /echo/x"
                    with self.lock:
                        self.answered += 1
                except (OSError, AssertionError) as problem:
                    with self.lock:
                        self.problems.append(repr(problem))
                    return
        self.problems.append("never refused")

    def join(self):
        for thread in self.threads:
            thread.join(60)
        assert not self.problems, self.problems
        return self.answered


@pytest.mark.parametrize("balance", ["random", "shared"])
def test_a_reload_opens_the_new_address_then_closes_the_old_one_and_loses_nothing(configured, balance):
    old, new = (f"127.0.0.1:{free_port()}" for _ in range(2))
    service = configured([old], balance=balance)
    clients = Clients(old)
    with socket.create_connection(old.rsplit(":", 1), timeout=10) as kept:
        kept.sendall(b"GET /echo/a HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(kept).body == b"echo /echo/a"
        assert is_refused(new)
        done = service.reload(new)
        assert done.returncode == 0, done.stderr
        assert "bind" not in done.stdout
        assert ask(new).body == b"echo /echo/x"
        # An open connection is not touched by the end of its listening socket.
        kept.sendall(b"GET /echo/b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(kept).body == b"echo /echo/b"
    assert service.addresses() == [new]
    assert clients.join() > 100
    assert f"{old} is closed" in service.mgr.log and is_refused(old)
    with no_loss(Load(connect=new, mode="new", rate=300)):
        service.mgr.must("scale", 4)
        service.mgr.must("reload")


def test_one_of_several_goes_and_the_others_do_not_notice(configured, tmp_path):
    first, second, third = (f"127.0.0.1:{free_port()}" for _ in range(3))
    path = tmp_path / "app.sock"
    service = configured([first, f"unix:{path}"])
    with no_loss(Load(connect=first, mode="new", rate=300), Load(connect=first, mode="keep", rate=300, connections=8)):
        assert service.reload(first, second).returncode == 0
        wait_for(lambda: not path.exists(), "the path is gone")
        assert ask(second).status == 200
        assert service.reload(third, first).returncode == 0
        wait_for(lambda: f"{second} is closed" in service.mgr.log, "closed")
    assert sorted(service.addresses()) == sorted([first, third])
    assert is_refused(second)


def test_an_address_that_widens_or_narrows_loses_nothing(configured):
    port = free_port()
    service = configured([f"127.0.0.1:{port}"])
    narrow, wide = f"127.0.0.1:{port}", f"0.0.0.0:{port}"
    with Load(connect=narrow, mode="new", rate=300) as load:
        assert service.reload(wide).returncode == 0
        assert service.addresses() == [wide]
        assert f"{narrow} stays open: {wide} includes it" in service.mgr.log
        assert ask(f"127.0.0.2:{port}").status == 200
        service.mgr.must("scale", 3)
        service.mgr.must("upgrade")
        assert service.addresses() == [wide]
        assert service.reload(narrow).returncode == 0
        wait_for(lambda: f"{wide} is closed" in service.mgr.log, "closed")
        report = load.stop()
    assert_none_lost(report)
    # Nobody's SYN was dropped: its client would ask again after a second.
    assert report["latency_ms"]["p90"] < 950, report["latency_ms"]
    assert service.addresses() == [narrow]
    assert is_refused(f"127.0.0.2:{port}") and ask(narrow).status == 200


def test_an_address_that_another_has_included_leaves_with_it(configured):
    port, other = free_port(), f"127.0.0.1:{free_port()}"
    service = configured([f"127.0.0.1:{port}"])
    for address in (f"0.0.0.0:{port}", other):
        assert service.reload(address).returncode == 0
    for address in (f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
        wait_for(lambda address=address: f"{address} is closed" in service.mgr.log, "closed")
    assert is_refused(f"127.0.0.1:{port}") and ask(other).status == 200


def test_an_address_that_comes_back_while_it_leaves_goes_on(configured):
    first, second = (f"127.0.0.1:{free_port()}" for _ in range(2))
    service = configured([first])
    assert service.reload(second).returncode == 0
    assert service.reload(first, second).returncode == 0
    with no_loss(Load(connect=first, mode="new", rate=200)):
        assert ask(second).status == 200
    assert sorted(service.addresses()) == sorted([first, second])
    time.sleep(4)  # longer than an address takes to leave
    assert ask(first).status == 200


def test_an_address_that_is_taken_refuses_the_reload(configured):
    old, new = (f"127.0.0.1:{free_port()}" for _ in range(2))
    service = configured([old])
    pids = [worker["pid"] for worker in service.mgr.workers()]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = f"127.0.0.1:{stranger.getsockname()[1]}"
        done = service.reload(new, taken)
    assert done.returncode == 1
    assert f"bind {taken}: Address already in use" in done.stderr + done.stdout
    assert service.addresses() == [old] and is_refused(new)
    assert [worker["pid"] for worker in service.mgr.workers()] == pids
    assert ask(old).status == 200
    shown = service.mgr.api("GET", "/v1/config")[1]["bind"]
    assert shown["value"] == [old]
    # The one that could be bound is free again.
    with socket.create_server(("127.0.0.1", int(new.rsplit(":", 1)[1]))):
        pass
    assert service.reload(new).returncode == 0


def test_the_same_address_by_another_name_refuses_the_reload(configured):
    port = free_port()
    service = configured([f"0.0.0.0:{port}"])
    done = service.reload(f":{port}")
    assert done.returncode == 1
    assert f"0.0.0.0:{port} is open already, for '0.0.0.0:{port}'" in done.stderr + done.stdout
    assert ask(f"127.0.0.1:{port}").status == 200


def test_a_reload_that_is_rolled_back_closes_the_new_addresses(configured):
    old, new = (f"127.0.0.1:{free_port()}" for _ in range(2))
    service = configured([old])
    good = (service.mgr.directory / "main.py").read_text()
    service.mgr.deploy_text("raise RuntimeError('bad deploy')\n")
    assert service.reload(new).returncode == 1
    assert service.addresses() == [old] and ask(old).status == 200
    with socket.create_server(("127.0.0.1", int(new.rsplit(":", 1)[1]))):
        pass
    service.mgr.deploy_text(good)
    assert service.reload(new).returncode == 0
    assert ask(new).status == 200


def test_a_second_reload_meanwhile_takes_nothing_away_from_the_first(configured):
    old, new = (f"127.0.0.1:{free_port()}" for _ in range(2))
    service = configured([old], min_ready="1500ms")
    service.write([new])
    first = threading.Thread(target=lambda: service.mgr.run("reload"))
    first.start()
    wait_for(lambda: service.mgr.status_now()["state"] == "reloading", "reloading")
    assert service.mgr.run("reload").returncode == 1
    first.join(30)
    assert service.addresses() == [new] and ask(new).status == 200
    assert service.mgr.api("GET", "/v1/config")[1]["bind"]["value"] == [new]


def test_a_descriptor_can_be_named_at_the_start_alone(configured):
    old = f"127.0.0.1:{free_port()}"
    service = configured([old])
    done = service.reload(old, "fd://7")
    assert done.returncode == 1
    assert "bind fd://7: descriptors are inherited at the start alone" in done.stderr + done.stdout


def test_a_unix_socket_by_another_path_loses_nothing(configured, tmp_path):
    old, new = tmp_path / "old.sock", tmp_path / "new.sock"
    service = configured([f"unix:{old}"])
    answered = []

    def until_it_is_gone():
        while True:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                try:
                    connection.connect(str(old))
                except (FileNotFoundError, ConnectionRefusedError):
                    return
                connection.sendall(b"GET /echo/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answered.append(read_response(connection).status)

    clients = [threading.Thread(target=until_it_is_gone) for _ in range(4)]
    for client in clients:
        client.start()
    wait_for(lambda: len(answered) > 50, "under way")
    assert service.reload(f"unix:{new}").returncode == 0
    for client in clients:
        client.join(30)
        assert not client.is_alive()
    assert set(answered) == {200}
    with no_loss(Load(unix=new, mode="new", rate=200)):
        pass
    assert service.addresses() == [f"unix:{new}"]


def test_packet_loss_does_not_lose_what_has_begun_on_an_address_that_narrows(configured, network):
    address = f"{network.ADDRESS}:8000"
    service = configured([address], command_prefix=network.inside(network.server))
    network.drop(5)
    with Load(mode="new", rate=200, prefix=network.inside(network.client), connect=address, timeout=40) as load:
        for count in (1, 2):
            assert service.reload("0.0.0.0:8000").returncode == 0
            assert service.reload(address).returncode == 0
            wait_for(lambda count=count: service.mgr.log.count("0.0.0.0:8000 is closed") == count, "closed")
        assert_none_lost(load.stop())
    assert network.dropped() > 100


@pytest.fixture
def without_ipv6():
    if not namespaces_are_possible():
        pytest.skip("needs root, ip and network namespaces")
    name = f"mgr-4-{uuid.uuid4().hex[:6]}"
    sh("ip", "netns", "add", name)
    inside = ["ip", "netns", "exec", name]
    sh(*inside, "ip", "link", "set", "lo", "up")
    for which in ("all", "default", "lo"):
        sh(*inside, "sysctl", "-qw", f"net.ipv6.conf.{which}.disable_ipv6=1")
    yield inside
    subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)


def test_on_a_host_without_ipv6_both_families_are_the_one_that_it_has(make_mgr, without_ipv6):
    mgr = make_mgr("echo", workers=2, bind=":8000", command_prefix=without_ipv6).start()
    load = Load(prefix=without_ipv6, connect="127.0.0.1:8000", mode="new", rate=200)
    with no_loss(load):
        mgr.must("reload")
    assert "0.0.0.0:8000" in [listener["address"] for listener in mgr.status()["listeners"]]


def test_on_a_host_without_ipv6_its_loopback_is_refused_with_the_reason(make_mgr, without_ipv6):
    mgr = make_mgr("echo", workers=1, bind="[::1]:8000", command_prefix=without_ipv6).launch()
    assert mgr.wait_exit() == 1
    assert "bind [::1]:8000: Cannot assign requested address" in mgr.log


def test_both_families_answer_on_one_port(make_mgr):
    port = free_port()
    make_mgr("echo", workers=2, bind=f":{port}").start()
    for host in ("127.0.0.1", "[::1]"):
        with no_loss(Load(connect=f"{host}:{port}", mode="new", rate=100)):
            assert ask(f"{host}:{port}").status == 200


def test_balance_shared_loses_nothing(make_mgr):
    mgr = make_mgr("echo", workers=2, balance="shared", min_ready="100ms").start()
    assert mgr.status()["listeners"][0]["balance"] == "shared"
    with no_loss(Load(mgr, "new", 500), Load(mgr, "keep", 500, connections=16, depth=4)):
        mgr.must("reload")
        mgr.must("scale", 4)
        mgr.must("restart")
        mgr.must("scale", 1)
        mgr.must("reload")


SLOW_IMPORT = "import time; time.sleep(2)\n"


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_an_address_is_taken_as_soon_as_somebody_loads_for_it(make_mgr, tmp_path, family):
    bind = f"unix:{tmp_path}/shared.sock" if family == "unix" else f"127.0.0.1:{free_port()}"
    first, second = (make_mgr("echo", workers=1, bind=bind) for _ in range(2))
    first.deploy_text(SLOW_IMPORT + (first.directory / "main.py").read_text())
    first.launch()
    wait_for(lambda: processes_with(first.mark)[1:], "its mold loads")
    second.launch()
    assert second.wait_exit() == 1 and "Address already in use" in second.log, second.log
    first.wait_ready()
    with Load(first, "new", 100, **({"unix": bind[5:]} if family == "unix" else {})) as load:
        first.must("scale", 3)
        report = load.stop()
    assert report["lost"] == 0 and report["ok"] > 0
    first.must("stop")
    # Connections in TIME_WAIT do not stand in the way of the next.
    make_mgr("echo", workers=2, bind=bind).start().must("stop")


def test_balance_needs_a_new_start(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("balance: random\n")
    mgr = make_mgr("echo", workers=1, config=file, min_ready="100ms").start()
    file.write_text("balance: shared\n")
    assert "balance" in mgr.must("reload")
    assert mgr.status()["listeners"][0]["balance"] == "random"


def test_an_unknown_balance_is_refused(make_mgr):
    mgr = make_mgr("echo", workers=1, balance="fair").launch()
    assert mgr.wait_exit() == 78
    assert "--balance: 'fair'" in mgr.log and "allowed: random or shared" in mgr.log
