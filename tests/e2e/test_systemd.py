"""mgr@.service and mgr@.socket on a systemd that is booted for real (systemd_harness.py)."""

import os
import re
import shutil
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from mgr_harness import APPS, ROOT, Load, no_loss, read_response, wait_for
from systemd_harness import Booted, Instance

ECHO = (APPS / "echo.py").read_text()
OTHER_MGR = Path(os.environ["BUILD_DIR"]) / "tests/e2e/upgrade/next"

# Says in which process what happened, and takes its time to start.
TALKING = """
import asyncio, os
print("imported", flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await asyncio.sleep(float(os.environ.get("BOOT", 0)))
        print("started", flush=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/fail":
        raise RuntimeError("failed on purpose")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    booted = Booted(tmp_path_factory.mktemp("systemd"))
    try:
        yield booted.boot()
    finally:
        booted.end()


@pytest.fixture
def make_instance(system):
    made = []

    def make(name="shop", **options):
        made.append(Instance(system, name, **options))
        return made[-1]

    yield make
    for instance in made:
        for unit in (f"{instance.unit}.socket", instance.unit):
            system.systemctl("stop", unit, check=False)
        print("\n".join(str(entry.get("MESSAGE")) for entry in instance.journal("-n", "60")))
        system.systemctl("reset-failed", check=False)
        system.run("rm", "-rf", *(f"/etc/systemd/system/{instance.unit}.{kind}.d"
                                  for kind in ("service", "socket")))
        system.systemctl("daemon-reload")


@pytest.fixture
def shop(make_instance):
    instance = make_instance()
    instance.systemctl("start")
    return instance


def get(instance, path="/", seconds=10):
    with urllib.request.urlopen(f"http://{instance.address}{path}", timeout=seconds) as response:
        return response.read()


def free_low_port():
    """A port below 1024 that nobody has; and the kernel guards it."""
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 1024:
        pytest.skip(f"ports from {first} need no privilege on this machine")
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port below 1024")


# ---- the units themselves


def test_the_units_pass_verify_without_a_word(system, make_instance):
    make_instance()
    done = system.run("systemd-analyze", "verify", "--man=no", "mgr@shop.service",
                      "mgr@shop.socket")
    assert done.stdout + done.stderr == ""


def test_the_exposure_is_below_3(system):
    text = system.run("systemd-analyze", "security", "--offline=true", "--no-pager",
                      "mgr@shop.service").stdout
    exposure = re.search(r"Overall exposure level for mgr@shop.service: ([\d.]+)", text)
    assert exposure and float(exposure[1]) < 3.0, text


def test_the_timeouts_of_the_unit_fit_the_default_settings(system, make_instance):
    shop = make_instance()
    text = system.run("mgr", "config", "--json", "-c", "/etc/mgr/shop.yaml").stdout
    assert '"1m"' in text and '"30s"' in text  # boot_timeout and graceful_timeout
    assert shop.show("TimeoutStartUSec") == "3min 10s"
    assert shop.show("TimeoutStopUSec") == "40s"
    assert shop.show("OOMPolicy") == "continue"


# ---- start and stop


def test_start_returns_when_the_service_is_ready(make_instance):
    shop = make_instance()
    shop.deploy_text(TALKING)
    shop.configure(env={"BOOT": "1.5"})
    start = shop.system.spawn("systemctl", "start", shop.unit)
    wait_for(lambda: shop.show("ActiveState") == "activating", "activating")
    assert start.wait(timeout=30) == 0
    assert get(shop) == b"here"
    assert shop.show("ActiveState") == "active"
    assert shop.show("StatusText") == "2 workers, generation 1"
    assert 'Status: "2 workers, generation 1"' in shop.systemctl("status").stdout


def test_root_finds_the_service_by_its_name_and_by_its_file(shop):
    assert shop.status()["name"] == "shop"
    assert "shop" in shop.system.run("mgr", "status").stdout
    assert "shop" in shop.system.run("mgr", "status", "-c", "/etc/mgr/shop.yaml").stdout
    stranger = shop.system.run("setpriv", "--reuid=65534", "--clear-groups", "mgr", "status", "-i",
                               "shop", check=False)
    assert stranger.returncode == 1 and "Permission denied" in stranger.stderr


def test_a_unix_socket_in_the_runtime_directory_is_reached_by_others_and_bound_anew(make_instance):
    shop = make_instance()
    shop.configure(bind="unix:/run/mgr/shop/http.sock", socket_mode="0666")
    shop.systemctl("start")
    for _ in range(2):
        said = shop.system.run("setpriv", "--reuid=65534", "--clear-groups", "curl", "-sS",
                               "--unix-socket", "/run/mgr/shop/http.sock", "http://x/x")
        assert said.stdout == "echo /x"
        shop.systemctl("restart")


def test_a_start_may_take_longer_than_the_unit_says_where_the_settings_allow_it(make_instance):
    shop = make_instance()
    shop.drop_in("[Service]\nTimeoutStartSec=1\n")
    shop.deploy_text(TALKING)
    shop.configure(env={"BOOT": "2.5"})
    shop.systemctl("start")
    assert get(shop) == b"here"


def test_a_stop_lets_a_request_finish_that_takes_longer_than_the_unit_says(shop):
    shop.drop_in("[Service]\nTimeoutStopSec=1\n")
    answers = []
    client = threading.Thread(target=lambda: answers.append(get(shop, "/slow?3", 20)))
    client.start()

    def in_flight():
        return sum(worker["in_flight"] for worker in shop.status()["workers"])

    wait_for(lambda: in_flight() == 1, "in flight")
    shop.systemctl("stop")
    client.join()
    assert answers == [b"slow"]
    assert shop.show("Result") == "success" and shop.show("ActiveState") == "inactive"


def test_an_application_that_is_missing_fails_the_start_and_is_not_tried_again(make_instance):
    shop = make_instance()
    shop.configure(app="nothing:app")
    assert shop.systemctl("start", check=False).returncode != 0
    assert (shop.show("ActiveState"), shop.show("SubState")) == ("failed", "failed")
    assert shop.show("ExecMainStatus") == "4" and shop.show("NRestarts") == "0"
    assert shop.show("StatusText").startswith("cannot start: import: ")
    assert "status=4" in shop.systemctl("status", check=False).stdout


def test_a_bad_configuration_fails_the_start_and_is_not_tried_again(make_instance):
    shop = make_instance()
    shop.configure(keep_alive="sometimes")
    assert shop.systemctl("start", check=False).returncode != 0
    assert shop.show("SubState") == "failed" and shop.show("ExecMainStatus") == "78"
    errors = [entry["MESSAGE"] for entry in shop.journal("-p", "err", "_COMM=mgr")]
    assert "keep_alive" in errors[-1] and "sometimes" in errors[-1]


def test_a_start_up_that_fails_is_tried_again_until_it_succeeds(make_instance):
    shop = make_instance()
    shop.drop_in("[Service]\nRestartSec=100ms\n")
    shop.deploy_text(TALKING.replace('print("started"', "raise ConnectionError  # "))
    shop.configure(lifespan="on")
    assert shop.systemctl("start", check=False).returncode != 0
    assert shop.show("ExecMainStatus") == "3"
    wait_for(lambda: int(shop.show("NRestarts")) >= 2, "two more tries")
    shop.deploy_text(TALKING)
    wait_for(lambda: shop.show("ActiveState") == "active", "active", 30)
    assert get(shop) == b"here"


# ---- changes


def test_a_reload_under_load_loses_nothing_and_is_over_when_systemctl_returns(shop):
    with no_loss(Load(connect=shop.address, rate=200),
                 Load(connect=shop.address, mode="keep", rate=200, connections=16)):
        shop.systemctl("reload")
        assert shop.status()["generation"] == 2
        assert shop.show("ActiveState") == "active"
    assert shop.show("StatusText") == "2 workers, generation 2"


def test_a_broken_deploy_fails_the_reload_while_the_old_code_serves(shop):
    with no_loss(Load(connect=shop.address, rate=200)):
        shop.deploy_text("import nothing_of_this_name\n" + ECHO)
        reload = shop.systemctl("reload", check=False)
        assert reload.returncode != 0
        assert get(shop, "/x") == b"echo /x"
    assert shop.show("ActiveState") == "active" and shop.show("NRestarts") == "0"
    assert "generation 1; last reload rolled back: import: " in shop.show("StatusText")
    errors = "\n".join(entry["MESSAGE"] for entry in shop.journal("-p", "err"))
    assert "No module named 'nothing_of_this_name'" in errors

    shop.deploy_text(ECHO)
    shop.systemctl("reload")
    assert shop.show("StatusText") == "2 workers, generation 2"


def test_a_broken_configuration_fails_the_reload_too(shop):
    shop.configure(workers="many")
    assert shop.systemctl("reload", check=False).returncode != 0
    assert shop.show("ActiveState") == "active"
    assert "last reload refused: configuration: " in shop.show("StatusText")
    assert get(shop, "/x") == b"echo /x"


def test_a_reload_that_nobody_told_systemd_of_is_shown_by_it(shop):
    shop.configure(min_ready="3s")
    reload = shop.system.spawn("mgr", "reload", "-i", "shop")
    wait_for(lambda: shop.show("ActiveState") == "reloading", "reloading")
    assert reload.wait(timeout=60) == 0
    wait_for(lambda: shop.show("ActiveState") == "active", "active")


def test_the_drop_in_reloads_by_signal_and_notification(make_instance):
    shop = make_instance()
    version = int(shop.system.run("systemctl", "--version").stdout.split()[1])
    shop.drop_in((ROOT / "deploy/systemd/notify-reload.conf").read_text())
    shop.systemctl("start")
    if version < 253:  # it does not know the type: the service runs, and no reload seems to succeed
        assert shop.show("Type") == "notify"
        refused = shop.systemctl("reload", check=False)
        assert refused.returncode != 0 and "not applicable" in refused.stderr
        assert (shop.show("ActiveState"), shop.status()["generation"]) == ("active", 1)
        assert get(shop, "/x") == b"echo /x"
        return
    assert shop.show("Type") == "notify-reload"
    with no_loss(Load(connect=shop.address, rate=200)):
        shop.systemctl("reload")
        assert shop.status()["generation"] == 2
        assert shop.show("StatusText") == "2 workers, generation 2"
        shop.deploy_text("import nothing_of_this_name\n" + ECHO)
        shop.systemctl("reload")  # its end, not its success, is what systemd is told
        assert shop.show("ActiveState") == "active"
        assert "generation 2; last reload rolled back: import: " in shop.show("StatusText")


def test_scale_to_12_by_root_under_load(shop):
    with no_loss(Load(connect=shop.address, rate=200)):
        shop.mgr("scale", 12)
        assert len(shop.status()["workers"]) == 12
        assert shop.show("StatusText") == "12 workers, generation 1"
        shop.mgr("scale", 2)
    assert len(shop.status()["workers"]) == 2


# ---- what goes wrong


def test_a_killed_worker_does_not_end_the_service(shop):
    victim = shop.status()["workers"][0]["pid"]
    os.kill(shop.outside(victim), signal.SIGKILL)

    def replaced():
        workers = shop.status()["workers"]
        return workers[0]["pid"] not in (victim, None) and workers[0]["state"] == "ready"

    wait_for(replaced, "the worker is replaced")
    assert shop.show("ActiveState") == "active" and shop.show("NRestarts") == "0"


def test_a_killed_supervisor_is_restarted(shop):
    shop.drop_in("[Service]\nRestartSec=100ms\n")
    before = shop.show("MainPID")
    children = shop.children()
    shop.system.systemctl("kill", "-s", "KILL", "--kill-who=main", shop.unit)
    wait_for(lambda: shop.show("NRestarts") == "1" and shop.show("ActiveState") == "active",
             "restarted", 30)
    assert shop.show("MainPID") != before
    assert get(shop, "/x") == b"echo /x"
    assert not set(children) & set(shop.children())


def test_a_supervisor_that_hangs_is_restarted_where_the_unit_has_a_watchdog(make_instance):
    shop = make_instance()
    shop.drop_in("[Service]\nWatchdogSec=2\nRestartSec=100ms\n")
    shop.systemctl("start")
    began, before = time.monotonic(), shop.show("MainPID")
    # Three of its periods, in which it is healthy.
    wait_for(lambda: time.monotonic() - began > 6, "three periods", 10)
    assert shop.show("MainPID") == before and shop.show("NRestarts") == "0"
    os.kill(shop.outside(int(before)), signal.SIGSTOP)
    wait_for(lambda: shop.show("NRestarts") == "1" and shop.show("ActiveState") == "active",
             "restarted", 60)
    assert get(shop, "/x") == b"echo /x"


# ---- privileges


def test_an_unprivileged_service_has_a_low_port_and_its_children_have_no_capability(make_instance):
    shop = make_instance()
    shop.port = free_low_port()
    shop.configure()
    shop.systemctl("start")
    shop.mgr("scale", 4)  # more sockets on that port, bound while it runs
    assert get(shop, "/x") == b"echo /x"
    supervisor = Path(f"/proc/{shop.outside(int(shop.show('MainPID')))}/status").read_text()
    assert re.search(r"CapEff:\s+0000000000000400", supervisor)
    assert int(re.search(r"Uid:\s+(\d+)", supervisor)[1]) >= 61184  # a dynamic user
    children = shop.children()
    assert len(children) == 5  # a mold and its workers
    for pid in children:
        status = Path(f"/proc/{pid}/status").read_text()
        for kind in ("Inh", "Prm", "Eff", "Amb"):
            assert re.search(rf"Cap{kind}:\s+0+$", status, re.MULTILINE), status
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        names = {entry.split(b"=")[0] for entry in entries}
        assert b"RUNTIME_DIRECTORY" in names
        assert not names & {b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID", b"LISTEN_FDS",
                            b"LISTEN_PID", b"LISTEN_FDNAMES", b"FDSTORE"}


def test_a_low_port_without_the_capability_is_refused_with_its_reason(make_instance):
    shop = make_instance()
    shop.port = free_low_port()
    shop.configure()
    shop.drop_in("[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\nRestart=no\n")
    assert shop.systemctl("start", check=False).returncode != 0
    assert shop.show("ExecMainStatus") == "1"
    errors = [entry["MESSAGE"] for entry in shop.journal("-p", "err", "_COMM=mgr")]
    assert f"bind {shop.address}: Permission denied" in errors[-1]


# ---- sockets that systemd holds


def test_connections_made_while_the_service_restarts_are_served(make_instance):
    shop = make_instance()
    shop.configure(bind=None)
    shop.drop_in(f"[Socket]\nListenStream=\nListenStream={shop.address}\n", kind="socket")
    shop.system.systemctl("start", f"{shop.unit}.socket")
    assert shop.show("ActiveState") == "inactive"
    assert get(shop, "/x", 30) == b"echo /x"  # the first connection starts it
    before = shop.show("MainPID")
    with no_loss(Load(connect=shop.address, rate=100)):
        shop.systemctl("restart")
        assert shop.show("MainPID") != before
        shop.systemctl("reload")
    [listener] = shop.status()["listeners"]
    assert listener["address"] == shop.address and listener["balance"] == "shared"


def test_the_socket_unit_as_it_is_makes_a_unix_socket(make_instance):
    shop = make_instance()
    shop.configure(bind=None)
    shop.system.systemctl("start", f"{shop.unit}.socket")
    shop.systemctl("start")
    inside = f"/proc/{shop.system.init}/root/run/mgr-http/shop.sock"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(inside)
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).body == b"echo /x"


# ---- the descriptor store


def assert_queues_survive_a_kill(shop, connect):
    workers = shop.children()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    connections = [connect() for _ in range(30)]
    for connection in connections:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    before = shop.show("MainPID")
    supervisor = shop.outside(int(before))
    os.kill(supervisor, signal.SIGSTOP)
    for pid in workers:  # else the kernel wakes them at their supervisor's death, and they accept
        os.kill(pid, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    for connection in connections:
        with connection:
            assert read_response(connection).body == b"echo /x"
    assert shop.show("MainPID") not in (before, "0")


def test_connections_in_the_queues_are_served_after_the_supervisor_was_killed(shop):
    wait_for(lambda: shop.show("NFileDescriptorStore") == "2", "a socket for each slot is kept")
    assert_queues_survive_a_kill(
        shop, lambda: socket.create_connection(("127.0.0.1", shop.port), timeout=30))
    assert shop.show("NFileDescriptorStore") == "2"


def test_so_are_those_of_a_unix_socket_in_a_runtime_directory_that_stays(make_instance):
    shop = make_instance()
    shop.configure(bind="unix:/run/mgr/shop/http.sock")
    shop.drop_in("[Service]\nDynamicUser=no\nUser=www-data\nRuntimeDirectoryPreserve=restart\n")
    shop.systemctl("start")
    path = Path(f"/proc/{shop.system.init}/root/run/mgr/shop/http.sock")

    def connect():
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(path))
        return connection

    wait_for(lambda: shop.show("NFileDescriptorStore") == "1", "it is kept")
    assert_queues_survive_a_kill(shop, connect)
    with no_loss(Load(unix=path, rate=100)):
        shop.systemctl("restart")
    assert shop.show("NFileDescriptorStore") == "1"
    shop.systemctl("stop")
    assert not path.exists()


def test_a_restart_refuses_no_connection_and_a_stop_empties_the_store(shop):
    with no_loss(Load(connect=shop.address, rate=100)):
        shop.systemctl("restart")
    shop.systemctl("stop")
    wait_for(lambda: shop.show("NFileDescriptorStore") == "0", "nothing is kept")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", shop.port))
    shop.systemctl("start")
    assert get(shop, "/x") == b"echo /x"


# ---- upgrades


def test_an_upgrade_under_load_keeps_the_main_process_and_loses_nothing(shop):
    installed = shop.system.path("/usr/local/bin/mgr")
    before, kept = shop.show("MainPID"), installed.read_bytes()
    try:
        new = installed.with_name("mgr.new")
        shutil.copy(OTHER_MGR, new)
        new.rename(installed)
        with no_loss(Load(connect=shop.address, rate=100)):
            said = shop.mgr("upgrade").stdout
        assert said.startswith("mgr 9.9.9 is in the place of ")
        assert shop.status()["version"] == "9.9.9"
        assert (shop.show("MainPID"), shop.show("ActiveState")) == (before, "active")
        shop.systemctl("reload")
        assert shop.show("StatusText") == "2 workers, generation 3"
    finally:
        shop.systemctl("stop")
        installed.unlink()
        installed.write_bytes(kept)
        installed.chmod(0o755)


# ---- several


def test_instances_stand_side_by_side(make_instance):
    shop, blog = make_instance("shop"), make_instance("blog")
    shop.systemctl("start")
    blog.systemctl("start")
    assert {shop.status()["name"], blog.status()["name"]} == {"shop", "blog"}
    several = shop.system.run("mgr", "status", check=False)
    assert several.returncode == 1 and "-i blog" in several.stderr and "-i shop" in several.stderr
    shop.systemctl("stop")
    assert get(blog, "/x") == b"echo /x"
    assert shop.show("ActiveState") == "inactive" and blog.show("ActiveState") == "active"


# ---- the journal


def test_the_journal_knows_the_priority_of_each_line(make_instance):
    shop = make_instance()
    shop.deploy_text(TALKING)
    shop.systemctl("start")
    with pytest.raises(urllib.error.HTTPError):
        get(shop, "/fail")
    run = f"_SYSTEMD_INVOCATION_ID={shop.show('InvocationID')}"

    def texts(*arguments):
        return [entry["MESSAGE"] for entry in shop.system.journal(run, *arguments)]

    wait_for(lambda: "RuntimeError: failed on purpose" in texts(), "the journal has it all")
    errors = texts("-p", "err")
    assert errors[0].startswith("[worker ") and "GET /fail" in errors[0]
    assert "Traceback (most recent call last):" in errors
    assert errors[-1] == "RuntimeError: failed on purpose"
    assert not [line for line in errors if "[info]" in line or line == "started"]
    by_text = {entry["MESSAGE"]: entry["PRIORITY"] for entry in shop.system.journal(run)}
    assert by_text["[supervisor] [info] ready: 2 workers"] == "6"
    assert by_text["started"] == "6"


def test_the_journal_has_json_records_whole(make_instance):
    shop = make_instance()
    shop.configure(log_format="json")
    shop.systemctl("start")
    with pytest.raises(urllib.error.HTTPError):
        get(shop, "/fail")
    run = f"_SYSTEMD_INVOCATION_ID={shop.show('InvocationID')}"
    errors = wait_for(lambda: shop.system.journal("-p", "err", run), "the error is in the journal")
    assert '"level":"error"' in errors[-1]["MESSAGE"] and errors[-1]["MESSAGE"].startswith("{")
    assert "on purpose" in errors[-1]["MESSAGE"]


def test_lines_of_supervisor_mold_and_workers_stay_in_order(make_instance):
    shop = make_instance()
    shop.configure(workers=1)
    shop.deploy_text(TALKING)
    shop.systemctl("start")
    shop.systemctl("reload")
    lines = [entry["MESSAGE"] for entry in
             shop.system.journal(f"_SYSTEMD_INVOCATION_ID={shop.show('InvocationID')}")]
    begin = next(i for i, line in enumerate(lines) if "reload: loading generation 2" in line)
    told = [line for line in lines[begin:]
            if line in ("imported", "started") or "application loaded" in line or "reload" in line]
    order = ["reload: loading generation 2", "imported", "application loaded", "started",
             "reload finished"]
    assert [text for text, line in zip(order, told, strict=False) if text in line] == order, lines
