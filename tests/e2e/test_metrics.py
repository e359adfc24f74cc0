"""The numbers for an operator: in the right format, right in value, and never falling."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from metrics_harness import Scrape, Watcher, admin, admin_address, ask, scrape
from mgr_harness import ROOT, Load, assert_none_lost, free_port, read_response, wait_for

DEBIAN_TOOLS = pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")),
                                  reason="needs Debian's package prometheus")


# ---- format

@DEBIAN_TOOLS
def test_promtool_has_no_complaint(make_mgr):
    mgr = make_mgr("measured", workers=2).start()
    checked = subprocess.run(["promtool", "check", "metrics"], input=mgr.must("metrics"), text=True,
                             capture_output=True, timeout=30)
    assert checked.returncode == 0 and not checked.stdout + checked.stderr, checked


def test_the_list_in_the_documentation_is_what_the_program_has(make_mgr):
    mgr = make_mgr("measured", workers=2).start()
    shown = scrape(mgr)
    listed = {}
    for row in (ROOT / "manager/METRICS.md").read_text().splitlines():
        if not row.startswith(("| `mgr_", "| `process_")):
            continue
        name, kind, labels, meaning = [cell.strip() for cell in row.strip("|").split("|")]
        assert meaning.endswith("."), row
        listed[name.strip("`")] = (kind, set(re.findall(r"`(\w+)`", labels)))
    assert listed == {name: (kind, shown.labels[name]) for name, kind in shown.types.items()}
    text = (ROOT / "manager/METRICS.md").read_text()
    reasons = set(re.findall(r"^\| `(\w+)` \| (?!counter|gauge|histogram)", text, re.M))
    assert reasons == set(shown.all("mgr_worker_restarts_total", "reason"))


def test_the_three_ways_to_the_numbers_agree(make_mgr):
    mgr = make_mgr("measured", workers=1, admin="127.0.0.1:0").start()
    for _ in range(3):
        ask(mgr, "/")
    wait_for(lambda: scrape(mgr)("mgr_connections") == 0, "closed")
    by_command = Scrape(mgr.must("metrics"))
    status, headers, text = admin(mgr, "/metrics")
    assert status == 200 and headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert mgr.api("GET", "/metrics")[2]["content-type"] == headers["content-type"]
    for numbers in (by_command, Scrape(text), scrape(mgr)):
        assert numbers("mgr_http_requests_total", status="2xx") == 3
        assert set(numbers.values) == set(by_command.values)


# ---- values

def test_known_requests_are_counted(make_mgr):
    mgr = make_mgr("measured", workers=2).start()
    for status, times in ((200, 7), (404, 3), (500, 2), (302, 1)):
        for _ in range(times):
            assert ask(mgr, f"/status/{status}") == status
    assert ask(mgr, "/sleep?0.3") == 200
    with mgr.connect() as refused:
        refused.sendall(b"nonsense\r\n\r\n")
        assert read_response(refused).status == 400
    with mgr.connect() as aborted:
        aborted.sendall(b"GET /sleep?1 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: scrape(mgr)("mgr_http_requests_in_flight") == 1, "in flight")
        assert scrape(mgr)("mgr_connections") >= 1
        reset_on_close = struct.pack("ii", 1, 0)
        aborted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
    shown = wait_for(lambda: (now := scrape(mgr))("mgr_http_requests_in_flight") == 0 and
                     now("mgr_connections") == 0 and now, "the aborted one has ended")
    assert shown.all("mgr_http_requests_total", "status") == {
        "1xx": 0, "2xx": 8, "3xx": 1, "4xx": 4, "5xx": 2, "aborted": 1}
    assert shown("mgr_connections_accepted_total") == 16
    assert shown("mgr_http_requests_in_flight") == 0
    # All but the refused one reached the application.
    assert shown("mgr_http_request_duration_seconds_count") == 15
    buckets = shown.all("mgr_http_request_duration_seconds_bucket", "le")
    assert buckets["+Inf"] == 15 and buckets["0.25"] <= 14
    assert 0.3 <= shown("mgr_http_request_duration_seconds_sum") < 60
    assert list(buckets.values()) == sorted(buckets.values())
    assert shown("mgr_http_sent_bytes_total") > shown("mgr_http_requests_total", status="2xx") * 100
    assert shown("mgr_http_received_bytes_total") > 16 * 20


def test_the_service_is_described(make_mgr):
    before = time.time()
    mgr = make_mgr("measured", workers=2).start()
    shown = scrape(mgr)
    assert shown.all("mgr_workers", "state") == {
        "ready": 2, "starting": 0, "hung": 0, "backoff": 0, "leaving": 0}
    assert shown("mgr_workers_target") == 2 and shown("mgr_ready") == 1
    assert shown("mgr_generation") == 1 and shown("mgr_last_reload_successful") == 1
    memory = shown.all("mgr_worker_resident_memory_bytes", "slot")
    assert set(memory) == {"0", "1"} and all(1e6 < value < 1e9 for value in memory.values())
    assert 1e6 < shown("mgr_molds_resident_memory_bytes") < 1e9
    assert 1e6 < shown("process_resident_memory_bytes") < 1e8
    assert before - 2 < shown("process_start_time_seconds") < time.time() + 2
    assert shown.all("mgr_accept_queue_length", "address") == {mgr.address: 0}
    assert {"version", "libuv", "llhttp"} <= shown.labels["mgr_build_info"]
    assert set(shown.all("mgr_worker_busy_ratio", "slot")) == {"0", "1"}
    assert all(0 <= value <= 1 for value in shown.all("mgr_worker_busy_ratio", "slot").values())


def test_reloads_and_restarts_are_counted_by_what_they_were(make_mgr):
    mgr = make_mgr("measured", workers=2, min_ready="100ms").start()
    mgr.must("reload")
    mgr.must("restart", 0)
    mgr.deploy_text("import no_such_module\n")
    assert mgr.run("reload").returncode == 1
    mgr.deploy("measured")

    def settled():
        now = scrape(mgr)
        return now("mgr_workers", state="leaving") == 0 and now

    shown = wait_for(settled, "the replaced have left")
    assert shown.all("mgr_reloads_total", "result") == {"ok": 1, "rolled_back": 1, "refused": 0}
    assert shown("mgr_last_reload_successful") == 0 and shown("mgr_generation") == 2
    restarts = shown.all("mgr_worker_restarts_total", "reason")
    assert {reason: count for reason, count in restarts.items() if count} == {
        "reload": 2, "restart": 1}
    os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
    os.kill(mgr.workers()[1]["pid"], signal.SIGABRT)
    shown = wait_for(lambda: (now := scrape(mgr))("mgr_workers", state="ready") == 2 and
                     now("mgr_worker_restarts_total", reason="signal") and now, "back again")
    assert shown("mgr_worker_restarts_total", reason="killed") == 1
    assert shown("mgr_worker_restarts_total", reason="signal") == 1
    mgr.must("reload")
    shown = scrape(mgr)
    assert shown("mgr_last_reload_successful") == 1 and shown("mgr_generation") == 3
    assert 0.2 <= shown("mgr_last_reload_duration_seconds") < 30


# ---- never falling

def test_no_counter_falls_or_misses_a_request_by_reloads_restarts_and_scales(make_mgr):
    mgr = make_mgr("measured", workers=2, min_ready="100ms").start()
    with Load(mgr, "new", 200, verify=False) as load, Load(mgr, "keep", 200, verify=False) as kept:
        with Watcher(mgr):
            for _ in range(2):
                mgr.must("reload")
                mgr.must("scale", 4)
                mgr.must("restart")
                mgr.must("scale", 1)
        reports = [load.stop(), kept.stop()]
    for report in reports:
        assert_none_lost(report)
    answered = sum(report["ok"] for report in reports)
    shown = wait_for(lambda: (now := scrape(mgr))("mgr_http_requests_total", status="2xx") ==
                     answered and now, f"{answered} requests")
    assert shown("mgr_http_request_duration_seconds_count") == answered
    assert sum(shown.all("mgr_http_requests_total", "status").values()) == answered


KILLS = 10


def test_no_counter_falls_when_workers_are_killed_under_load(make_mgr):
    mgr = make_mgr("measured", workers=2).start()
    with Load(mgr, "new", 300, verify=False) as load:
        with Watcher(mgr):
            for number in range(KILLS):
                worker = lambda: mgr.status_now()["workers"][number % 2]
                victim = wait_for(lambda: (now := worker())["requests"] > 30 and now["pid"],
                                  "a victim that has served")
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda: scrape(mgr)("mgr_worker_restarts_total", reason="killed") ==
                         number + 1, "counted")
        wait_for(lambda: scrape(mgr)("mgr_workers", state="ready") == 2, "all are back")
        report = load.stop()
    counted = scrape(mgr)("mgr_http_requests_total", status="2xx")
    # A response may have been counted and not have reached its client; and each worker may have been
    # killed just between the last byte of a response and its count.
    assert report["ok"] - KILLS <= counted <= report["ok"] + report["lost"], report
    assert report["ok"] > 200


def test_metrics_of_no_supervisor_are_a_failure(make_mgr):
    mgr = make_mgr("measured", workers=1)
    done = mgr.run("metrics")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and str(mgr.control) in done.stderr


# ---- a real Prometheus

class Prometheus:
    """Scrapes one target each second, and keeps what it finds in the test's directory."""

    def __init__(self, directory, target):
        self.address = f"127.0.0.1:{free_port()}"
        configuration = directory / "prometheus.yml"
        configuration.write_text(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: mgr\n"
            f"  static_configs:\n  - targets: ['{target}']\n")
        self.log = open(directory / "prometheus.log", "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={configuration}", f"--web.listen-address={self.address}",
             f"--storage.tsdb.path={directory / 'tsdb'}"], stdout=self.log, stderr=self.log)

    def query(self, expression):
        """{labels: value} of an instant query."""
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)
        except (urllib.error.URLError, ConnectionError):
            return {}
        assert found["status"] == "success", found
        return {json.dumps(one["metric"], sort_keys=True): float(one["value"][1])
                for one in found["data"]["result"]}

    def value(self, expression):
        return next(iter(self.query(expression).values()), None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.log.close()


@DEBIAN_TOOLS
def test_a_real_prometheus_scrapes_and_answers_questions(make_mgr, tmp_path):
    mgr = make_mgr("measured", workers=2, min_ready="100ms", admin="127.0.0.1:0").start()
    with Prometheus(tmp_path, admin_address(mgr)) as prometheus:
        wait_for(lambda: prometheus.value("up") == 1, "scraped", 60, 0.2)
        for status, times in ((404, 3), (500, 2)):
            for _ in range(times):
                ask(mgr, f"/status/{status}")
        with Load(mgr, "keep", 40, path="/sleep?0.3", connections=32, verify=False) as load:
            wait_for(lambda: prometheus.value("count_over_time(mgr_ready[8s]) >= 8 and "
                                              "min_over_time(mgr_http_requests_in_flight[6s]) > 0"),
                     "eight scrapes, the last six under load", 60, 0.2)
            rate = prometheus.value('sum(rate(mgr_http_requests_total{status="2xx"}[5s]))')
            median = prometheus.value(
                "histogram_quantile(0.5, rate(mgr_http_request_duration_seconds_bucket[5s]))")
            os.kill(mgr.workers()[0]["pid"], signal.SIGKILL)
            wait_for(lambda: prometheus.value('mgr_worker_restarts_total{reason="killed"}') == 1,
                     "the restart is seen", 20, 0.2)
            mgr.must("reload")
            report = load.stop()
        assert 30 < rate < 50, "40 a second were sent"
        assert 0.25 < median <= 0.5
        counted = scrape(mgr)("mgr_http_requests_total", status="2xx")
        assert report["ok"] <= counted <= report["ok"] + report["lost"]
        wait_for(lambda: prometheus.value('mgr_http_requests_total{status="2xx"}') == counted,
                 "the last scrape", 20, 0.2)
        assert prometheus.value('mgr_http_requests_total{status="4xx"}') == 3
        assert prometheus.value('mgr_http_requests_total{status="5xx"}') == 2
        assert prometheus.value('increase(mgr_http_requests_total{status="5xx"}[1m]) > 0')
        assert sum(prometheus.query("resets(mgr_http_requests_total[5m])").values()) == 0
        assert prometheus.value("resets(mgr_worker_busy_seconds_total[5m])") == 0
        assert prometheus.value("mgr_generation") == 2
        assert prometheus.value('min_over_time(up{job="mgr"}[1m])') == 1
