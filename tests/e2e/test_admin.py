"""The admin listener: metrics and probes, whatever becomes of the workers, and nothing else."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from metrics_harness import Scrape, admin, admin_address
from mgr_harness import free_port, wait_for


def test_the_admin_listener_answers_while_every_worker_hangs(make_mgr):
    mgr = make_mgr("measured", workers=2, admin="127.0.0.1:0", graceful_timeout="1s").start()
    with contextlib.ExitStack() as open_connections:
        def lags():
            return Scrape(admin(mgr, "/metrics")[2]).all("mgr_worker_loop_lag_seconds", "slot")

        assert max(lags().values()) < 1

        def block():
            connection = open_connections.enter_context(mgr.connect())
            connection.sendall(b"GET /block?60 HTTP/1.1\r\nHost: a\r\n\r\n")
            return min(lags().values()) > 0.5

        wait_for(block, "both workers hang", period=0.2)
        address = mgr.address
        for _ in range(5):
            open_connections.enter_context(mgr.connect())
        before = Scrape(admin(mgr, "/metrics")[2])
        began = time.monotonic()
        assert admin(mgr, "/livez")[::2] == (200, "ok\n")
        assert admin(mgr, "/readyz")[::2] == (200, "ok\n")
        wait_for(lambda: min(lags().values()) > 2.5, "the lag grows")
        after = Scrape(admin(mgr, "/metrics")[2])
        passed = time.monotonic() - began
        for slot in ("0", "1"):
            grown = (after("mgr_worker_loop_lag_seconds", slot=slot) -
                     before("mgr_worker_loop_lag_seconds", slot=slot))
            assert 1 < grown <= passed + 0.1
            assert after("mgr_worker_busy_ratio", slot=slot) > 0.5
        busy = after("mgr_worker_busy_seconds_total") - before("mgr_worker_busy_seconds_total")
        assert 2 < busy <= 2 * passed + 0.2
        assert after("mgr_accept_queue_length", address=address) >= 5


def test_readiness_fails_with_the_reason_before_the_start_and_while_stopping(make_mgr):
    mgr = make_mgr("measured", workers=1, admin="127.0.0.1:0", drain_delay="3s",
                   env={"START_UP_SECONDS": "2"}).launch()
    assert admin(mgr, "/livez")[0] == 200
    status, _, body = admin(mgr, "/readyz")
    assert status == 503 and body.startswith("starting"), body
    assert "mgr_ready 0\n" in admin(mgr, "/metrics")[2]
    mgr.wait_ready()
    assert admin(mgr, "/readyz")[::2] == (200, "ok\n")
    assert "mgr_ready 1\n" in admin(mgr, "/metrics")[2]
    mgr.process.send_signal(signal.SIGTERM)
    status, _, body = wait_for(lambda: (now := admin(mgr, "/readyz"))[0] == 503 and now, "503")
    assert body == "stopping\n"
    assert admin(mgr, "/livez")[0] == 200 and mgr.get("/")[0] == 200


def test_the_admin_listener_reads_and_nothing_else(make_mgr):
    mgr = make_mgr("measured", workers=1, admin="127.0.0.1:0").start()
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = admin(mgr, "/metrics", method)
        assert status == 405 and headers["allow"] == "GET, HEAD"
    for path in ("/", "/v1/status", "/v1/stop", "/metrics/", "/v1/config"):
        assert admin(mgr, path)[0] == 404
        assert admin(mgr, path, "POST")[0] == 404
    status, headers, body = admin(mgr, "/metrics", "HEAD")
    assert status == 200 and body == "" and int(headers["content-length"]) > 1000
    assert admin(mgr, "/livez?probe=1")[0] == 200
    assert mgr.status()["state"] == "running"


def test_silent_connections_keep_nobody_from_the_admin_listener_for_long(make_mgr):
    mgr = make_mgr("measured", workers=1, admin="127.0.0.1:0").start()
    host, port = admin_address(mgr).rsplit(":", 1)
    descriptors = lambda: len(os.listdir(f"/proc/{mgr.pid}/fd"))
    before = descriptors()
    with contextlib.ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(socket.create_connection((host, int(port)), timeout=5))
        wait_for(lambda: descriptors() >= before + 64, "as many as it takes are accepted")
        assert descriptors() <= before + 64 + 2
        assert mgr.api("GET", "/livez")[0] == 200
        assert admin(mgr, "/livez", seconds=15)[0] == 200, "behind the silent ones in the queue"
    wait_for(lambda: descriptors() <= before, "all are gone")


def test_an_admin_address_in_use_is_named(make_mgr):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = "127.0.0.1:%d" % stranger.getsockname()[1]
        mgr = make_mgr("measured", workers=1, admin=address).launch()
        assert mgr.wait_exit() == 1
    assert mgr.log.strip().splitlines()[-1].endswith(
        f"cannot start: admin {address}: Address already in use")


@pytest.mark.parametrize("value", ["9100", "127.0.0.1", "127.0.0.1:65536", "::1:9100", "on",
                                   "unix:/tmp/admin.sock", "fd://3", "http://127.0.0.1:9100", ""])
def test_a_bad_admin_address_gets_one_line(make_mgr, value):
    mgr = make_mgr("measured", workers=1, admin=value).launch()
    assert mgr.wait_exit() == 78
    lines = mgr.log.strip().splitlines()
    assert len(lines) == 1 and "admin" in lines[0] and value in lines[0], lines
    assert lines[0].endswith("allowed: off, host:port, [v6]:port or :port"), lines


def test_both_families_are_listened_on_where_the_host_is_left_out(make_mgr):
    mgr = make_mgr("measured", workers=1, admin=f":{free_port()}").start()
    addresses = re.findall(r"admin listener (\S+)", mgr.log)
    assert len(addresses) == len({address.split(":")[0] for address in addresses}) >= 1
    for address in addresses:
        reachable = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        with urllib.request.urlopen(f"http://{reachable}/livez", timeout=5) as answer:
            assert answer.status == 200


def test_a_reload_says_that_it_does_not_apply_the_admin_address(make_mgr, tmp_path):
    file = tmp_path / "mgr.yaml"
    file.write_text("admin: 127.0.0.1:0\n")
    mgr = make_mgr("measured", workers=1, min_ready="100ms", config=file).start()
    file.write_text("admin: off\n")
    assert re.search(r"not applied by a reload.*: admin\b", mgr.must("reload"))
    assert admin(mgr, "/livez")[0] == 200
    assert mgr.must("reload").count("admin") == 1, "it is still another than the file says"


def test_without_the_setting_nothing_listens(make_mgr):
    mgr = make_mgr("measured", workers=1).start()
    assert "admin listener" not in mgr.log
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    own = [line for line in listening.splitlines() if f"pid={mgr.pid}," in line]
    assert {line.split()[3] for line in own} == {mgr.address}
