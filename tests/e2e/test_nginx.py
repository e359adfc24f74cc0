"""mgr behind the real nginx, with the sites of deploy/nginx."""

import ast
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from mgr_harness import MGR, Load, no_loss, read_response, wait_for
from nginx_harness import DEPLOY, NGINX, Nginx, setting_of
from test_crash import settled, stop_and_kill
from test_upgrade import NEXT, OURS, installed, replace

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
BOTH = pytest.mark.parametrize("kind", ["tcp", "unix"])
IDLE = "keepalive_timeout 60s;"


@pytest.fixture
def site(make_mgr):
    """site(kind, app, …): mgr with the shipped mgr.yaml, and nginx with the shipped site."""
    made = []
    directory = tempfile.mkdtemp(prefix="mgr-nginx-")
    os.chmod(directory, 0o755)

    def make(kind, app="echo", changes=(), **settings):
        if kind == "unix":
            settings["bind"] = f"unix:{directory}/app.sock"
            settings["socket_group"] = "www-data" if os.geteuid() == 0 else None
        settings = {"workers": 2, "min_ready": "50ms", "config": DEPLOY / "mgr.yaml", **settings}
        mgr = make_mgr(app, **settings).start()
        made.append(Nginx.in_front_of(mgr, kind, changes))
        return mgr, made[-1]

    yield make
    for nginx in made:
        nginx.end()
    shutil.rmtree(directory)


def head(path, fields="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: example.com\r\n{fields}\r\n".encode()


def ask(connection, path="/echo/x", fields="", method="GET"):
    connection.sendall(head(path, fields, method))
    return read_response(connection)


def get(nginx, path, fields="", source="127.0.0.1"):
    with nginx.connect(source) as connection:
        return ask(connection, path, fields + "Connection: close\r\n")


def loads(nginx):
    return (Load(connect=nginx.address, mode="new", rate=200),
            Load(connect=nginx.address, mode="keep", rate=500, connections=16))


def assert_all_answered(nginx):
    """By their first upstream: a second one would stand in the log with a comma."""
    answers = nginx.access()
    assert len(answers) > 500
    assert {tuple(answer[:2]) for answer in answers} == {("200", "200")}
    assert nginx.errors == ""


# ---- what is shipped


@BOTH
def test_the_shipped_files_pass_nginx_own_test_without_a_warning(kind):
    nginx = Nginx(kind)
    try:
        status, said = nginx.test_configuration()
    finally:
        nginx.end()
    assert status == 0 and "test is successful" in said
    assert not [word for word in ("warn", "error", "emerg") if f"[{word}]" in said], said


def seconds_of(text):
    return int(text.removesuffix("s"))


@BOTH
def test_the_timeouts_of_the_site_and_of_mgr_yaml_fit(kind):
    done = subprocess.run([MGR, "config", "-c", DEPLOY / "mgr.yaml", "--json"], check=True,
                          capture_output=True, text=True)
    settings = {name: entry["value"] for name, entry in json.loads(done.stdout).items()}
    idle = seconds_of(setting_of(kind, "keepalive_timeout"))
    assert (settings["keep_alive"], idle) == ("75s", 60)
    assert seconds_of(settings["graceful_timeout"]) > idle
    graceful = seconds_of(settings["graceful_timeout"])
    assert graceful > seconds_of(setting_of(kind, "proxy_read_timeout"))
    body = seconds_of(settings["body_timeout"])
    assert body < seconds_of(setting_of(kind, "client_body_timeout"))
    assert setting_of(kind, "proxy_next_upstream") == "off"


# ---- changes under load


@BOTH
def test_20_reloads_behind_nginx_lose_nothing(site, kind):
    mgr, nginx = site(kind)
    with no_loss(*loads(nginx)):
        for _ in range(20):
            mgr.must("reload")
    status = mgr.status()
    assert status["reloads"] == 20 and status["state"] == "running"
    assert_all_answered(nginx)


@BOTH
def test_upgrades_behind_nginx_lose_nothing(site, kind, tmp_path):
    program = installed(tmp_path / "prefix")
    mgr, nginx = site(kind, program=program)
    with no_loss(*loads(nginx)):
        for number, (build, version) in enumerate([(NEXT, "9.9.9"), (OURS, "")] * 4, 2):
            replace(mgr, build)
            assert f"generation {number} serves" in mgr.must("upgrade")
            assert mgr.status()["version"].startswith(version)
    assert_all_answered(nginx)


@BOTH
def test_scaling_2_12_2_behind_nginx_loses_nothing(site, kind):
    mgr, nginx = site(kind)
    rounds = 0
    with no_loss(*loads(nginx)):
        while rounds < 5 or len(nginx.access()) < 1000:  # a fast machine needs more of them
            for wanted in (12, 2):
                mgr.must("scale", wanted)
                assert mgr.status()["target_workers"] == wanted
            rounds += 1
    assert_all_answered(nginx)


def pids(mgr):
    return [worker["pid"] for worker in mgr.status_now()["workers"]]


def test_a_killed_worker_costs_502_for_what_it_had_in_hand_and_nothing_else(site):
    mgr, nginx = site("tcp", preload="on")
    least = most = 0
    with Load(connect=nginx.address, mode="keep", rate=200, connections=60, path="/slow?0.1",
              verify=False, expect_body_prefix="slow") as load:
        for turn in range(4):
            wait_for(lambda: settled(mgr), "both workers have lived for a while")
            victim = mgr.status_now()["workers"][turn % 2]["pid"]
            os.kill(victim, signal.SIGSTOP)
            status = mgr.status_now()["workers"][turn % 2]
            least += status["in_flight"]
            most += len(stop_and_kill(victim))
            wait_for(lambda: victim not in pids(mgr), "replaced")
        report = load.stop()
    assert 0 < least <= report["lost"] <= most, (least, most, report)
    assert report["lost"] == report["wrong_status"], report
    statuses = [answer[0] for answer in nginx.access()]
    assert statuses.count("502") == report["lost"]
    assert statuses.count("200") == len(statuses) - report["lost"]


def test_a_request_that_may_have_been_executed_is_not_sent_again(site):
    mgr, nginx = site("tcp", "behind_proxy")
    record = mgr.directory / "record"
    with nginx.connect() as connection:
        connection.sendall(head("/record"))
        executed_by = int(wait_for(lambda: record.exists() and record.read_text(), "executed"))
        os.kill(executed_by, signal.SIGKILL)
        assert read_response(connection).status == 502
    assert record.read_text() == f"{executed_by}\n"
    assert get(nginx, "/scope").status == 200


# ---- connections to mgr


def test_connections_to_mgr_are_kept(site):
    # Nothing that nginx says is believed here, so the client of the scope is nginx's own socket.
    _, nginx = site("tcp", "behind_proxy", forwarded="off")
    clients = {ast.literal_eval(get(nginx, "/scope").body.decode())["client"] for _ in range(60)}
    assert {host for host, _ in clients} == {"127.0.0.1"}
    assert len(clients) <= 2, "each worker of nginx keeps one"


@BOTH
def test_bursts_around_the_idle_timeouts_lose_nothing(site, kind):
    """nginx lets go after 1 s, mgr would after 2 s: as 60 s and 75 s, but soon."""
    _, nginx = site(kind, changes=[(IDLE, "keepalive_timeout 1s;")], keep_alive="2s")
    connections = [nginx.connect() for _ in range(16)]
    for pause in (0.97, 0.99, 0.995, 1.0, 1.005, 1.01, 1.03, 1.97, 1.995, 2.0, 2.005, 2.03):
        for connection in connections:
            connection.sendall(head("/echo/x"))
        assert {read_response(connection).status for connection in connections} == {200}
        time.sleep(pause)
    for connection in connections:
        connection.close()
    assert nginx.errors == ""


def late_request(mgr, nginx, until):
    """Its status: nginx finds it, when it awakes, before it finds what happened meanwhile."""
    with nginx.connect() as connection:
        assert ask(connection).status == 200
        idle_since = time.monotonic()
        workers = nginx.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        connection.sendall(head("/echo/late"))
        wait_for(lambda: until(time.monotonic() - idle_since), "time to awake")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        return read_response(connection).status


def test_a_request_written_after_the_idle_time_of_nginx_is_served(site):
    mgr, nginx = site("tcp", changes=[(IDLE, "keepalive_timeout 1s;")], keep_alive="4s")
    assert late_request(mgr, nginx, lambda idle: idle > 1.5) == 200


def test_with_a_shorter_keep_alive_of_mgr_a_request_can_be_lost_as_the_readme_warns(site):
    mgr, nginx = site("tcp", keep_alive="1s")

    def mgr_has_closed(_):
        return not any(worker["connections"] for worker in mgr.status_now()["workers"])

    assert late_request(mgr, nginx, mgr_has_closed) == 502


def test_a_stop_parts_from_idle_connections_of_nginx_after_a_second(site):
    mgr, nginx = site("tcp")
    assert get(nginx, "/echo/x").status == 200
    assert sum(worker["connections"] for worker in mgr.status_now()["workers"]) == 1
    began = time.monotonic()
    mgr.process.terminate()
    assert mgr.wait_exit(10) == 0
    assert 0.9 < time.monotonic() - began < 5


# ---- who the client is


FORGED = {
    "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "666", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Server": "evil",
    "X-Forwarded-Ssl": "on", "X-Forwarded-Scheme": "https", "X-Forwarded-Protocol": "https",
    "X-Forwarded-By": "6.6.6.6", "X-Forwarded": "for=6.6.6.6", "X-Forwarded-User": "root",
    "X-Forwarded-Client-Cert": "By=evil", "X-Forwarded-Uri": "/evil", "X-Forwarded-Path": "/evil",
    "Forwarded": "for=6.6.6.6;host=evil.example;proto=https", "X-Real-IP": "6.6.6.6",
    "X-Client-IP": "6.6.6.6", "X-Cluster-Client-IP": "6.6.6.6", "X-Original-For": "6.6.6.6",
    "X-Original-Forwarded-For": "6.6.6.6", "X-Original-Host": "evil.example",
    "X-Original-Method": "DELETE", "X-Original-Proto": "https", "X-Original-Uri": "/evil",
    "X-Original-URL": "/evil", "X-Rewrite-URL": "/evil", "X-Host": "evil.example",
    "X-Scheme": "https", "X-Url-Scheme": "https", "Front-End-Https": "on",
    "True-Client-IP": "6.6.6.6", "CF-Connecting-IP": "6.6.6.6", "Fastly-Client-IP": "6.6.6.6",
    "Client-IP": "6.6.6.6", "Proxy": "http://evil.example", "X_Forwarded_For": "6.6.6.6",
    "Upgrade": "websocket",
}


@BOTH
def test_the_application_sees_the_real_client_and_nothing_that_it_forged(site, kind):
    _, nginx = site(kind, "behind_proxy")
    forged = "".join(f"{name}: {value}\r\n" for name, value in FORGED.items())
    for fields in ("", forged):
        answer = get(nginx, "/scope", fields, source="127.0.0.5")
        scope = ast.literal_eval(answer.body.decode())
        assert scope["client"][0] == "127.0.0.5" and scope["scheme"] == "http"
        assert scope["http_version"] == "1.1"
        assert dict(scope["headers"]) == {b"host": b"example.com", b"x-forwarded-for": b"127.0.0.5",
                                          b"x-forwarded-proto": b"http"}


# ---- uploads


PART = bytes(1 << 20)
PARTS = 200


def progress(nginx):
    number, *ended = get(nginx, "/progress").body.decode().split()
    return int(number), ended


def peak_memory(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


@BOTH
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_of_200_mb_streams_through_without_being_stored(site, kind, framing):
    mgr, nginx = site(kind, "behind_proxy", workers=1)
    worker = mgr.workers()[0]["pid"]
    before = peak_memory(worker)
    chunked = framing == "chunked"
    length = f"Content-Length: {PARTS * len(PART)}\r\n"
    fields = "Transfer-Encoding: chunked\r\n" if chunked else length
    part = b"%x\r\n%s\r\n" % (len(PART), PART) if chunked else PART
    with nginx.connect() as connection:
        connection.sendall(head("/upload", fields, "POST"))
        for number in range(1, PARTS + 1):
            connection.sendall(part)
            if number % 50 == 1:
                # All that has been sent so far arrives, while the rest has not been sent.
                wait_for(lambda: progress(nginx) == (number * len(PART), []), "it arrives")
                assert not any((nginx.prefix / "body").rglob("*[0-9]")), "stored by nginx"
        connection.sendall(b"0\r\n\r\n" if chunked else b"")
        assert read_response(connection).body == b"got %d" % (PARTS * len(PART))
    assert peak_memory(worker) - before < 8 << 20
    assert nginx.errors == ""


def test_an_upload_larger_than_the_limit_of_the_site_is_refused_before_it_is_sent(site):
    mgr, nginx = site("tcp", "behind_proxy", workers=1)
    limit = 1 << 30
    assert setting_of("tcp", "client_max_body_size") == "1g"
    with nginx.connect() as connection:
        answer = ask(connection, "/upload", f"Content-Length: {limit + 1}\r\n", "POST")
        assert answer.status == 413
    assert progress(nginx) == (0, [])
    with nginx.connect() as connection:
        connection.sendall(head("/upload", f"Content-Length: {limit}\r\n", "POST") + PART)
        wait_for(lambda: progress(nginx)[0] == len(PART), "the largest one that is allowed")


def test_a_slow_upload_is_served_and_a_stalled_one_ends_with_408(site):
    mgr, nginx = site("tcp", "behind_proxy", workers=1, body_timeout="1s")
    with nginx.connect() as connection:
        connection.sendall(head("/upload", "Content-Length: 5\r\n", "POST"))
        for _ in range(5):
            time.sleep(0.5)  # all together more than body_timeout, each one less
            connection.sendall(b"x")
        assert read_response(connection).body == b"got 5"
    with nginx.connect() as connection:
        connection.sendall(head("/upload", "Content-Length: 5\r\n", "POST") + b"x")
        answer = read_response(connection)
        assert answer.status == 408
    wait_for(lambda: progress(nginx) == (1, ["disconnect"]), "the application is told")


def test_a_client_that_leaves_in_the_middle_of_an_upload_is_a_disconnect(site):
    mgr, nginx = site("tcp", "behind_proxy", workers=1)
    with nginx.connect() as connection:
        connection.sendall(head("/upload", "Content-Length: 1000\r\n", "POST") + b"x" * 10)
        wait_for(lambda: progress(nginx)[0] == 10, "the first bytes arrive")
    wait_for(lambda: progress(nginx) == (10, ["disconnect"]), "the application is told")


# ---- streams


@BOTH
def test_server_sent_events_arrive_one_by_one(site, kind):
    _, nginx = site(kind, "behind_proxy", workers=1)
    with nginx.connect() as connection:
        connection.sendall(head("/events"))
        data = b""
        for number in range(3):
            while b"data: %d\n\n" % number not in data:
                more = connection.recv(65536)
                assert more, data
                data += more
            assert b"data: %d" % (number + 1) not in data
            assert get(nginx, "/next").body == b"set"
        while not data.endswith(b"0\r\n\r\n"):
            data += connection.recv(65536)


DOWNLOAD = 50_000_000


def sent(nginx):
    return int(get(nginx, "/sent").body)


def receive_download(connection):
    total = 0
    while data := connection.recv(1 << 20):
        total += len(data)
    assert total > DOWNLOAD


def test_an_ordinary_response_is_off_mgrs_hands_before_the_client_reads_it(site):
    _, nginx = site("tcp", "behind_proxy", workers=1)
    with nginx.connect() as connection:
        connection.sendall(head("/download", "Connection: close\r\n"))
        wait_for(lambda: sent(nginx) == DOWNLOAD, "the application has sent everything")
        receive_download(connection)


def test_a_response_that_says_unbuffered_goes_no_faster_than_the_client_reads(site):
    _, nginx = site("tcp", "behind_proxy", workers=1)
    with nginx.connect() as connection:
        connection.sendall(head("/download?unbuffered", "Connection: close\r\n"))
        for _ in range(20):
            wait_for(lambda: sent(nginx) > 0, "it begins")
            assert sent(nginx) < DOWNLOAD // 2
            time.sleep(0.05)
        receive_download(connection)
        assert sent(nginx) == DOWNLOAD
