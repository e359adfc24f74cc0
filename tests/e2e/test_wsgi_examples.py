"""examples/flask and examples/django, as they stand, with Debian's Flask and Django."""

import json
import threading
import time

import pytest
from browser import Browser, upload
from mgr_harness import ROOT, copy_tree, wait_for


@pytest.fixture(params=["flask", "django"])
def example(request, make_mgr):
    mgr = make_mgr("echo", target=None, workers=2, min_ready="200ms")
    (mgr.directory / "main.py").unlink()
    copy_tree(ROOT / "examples" / request.param, mgr.directory)
    mgr.framework = request.param
    return mgr.start()


def add_item(mgr, browser, name):
    if mgr.framework == "flask":
        return browser.call("/items", json.dumps({"name": name}).encode(), "application/json")
    return browser.call("/items", f"name={name}".encode(), "application/x-www-form-urlencoded")


def test_a_database_that_all_workers_share(example):
    browser = Browser(example)
    assert add_item(example, browser, "")[0] == 400
    for number in range(5):
        status, body = add_item(example, browser, f"tea{number}")
        assert status == 201 and json.loads(body)["name"] == f"tea{number}"
    for _ in range(10):
        assert [item["name"] for item in browser.json("/items")[1]] == [f"tea{n}" for n in range(5)]
    workers = {browser.json("/")[1]["worker"] for _ in range(40)}
    assert workers <= {worker["pid"] for worker in example.workers()} and len(workers) == 2


def test_a_session_holds_over_workers_and_reloads(example):
    browser = Browser(example)
    for visit in range(1, 4):
        assert browser.json("/visits", b"") == (200, {"visits": visit})
    example.must("reload")
    assert browser.json("/visits", b"") == (200, {"visits": 4})
    assert Browser(example).json("/visits", b"") == (200, {"visits": 1})


@pytest.mark.parametrize("size", [0, 10, 200_000, 20_000_000])
def test_an_upload_comes_back(example, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    browser = Browser(example)
    assert upload(browser, "file.bin", content) == (201, {"name": "file.bin", "size": size})
    status, body = browser.call("/files/file.bin")
    assert status == 200 and body == content
    assert browser.call("/files/other")[0] == 404


def test_a_stream_is_complete(example):
    status, body = Browser(example).call("/export?rows=20000")
    lines = body.decode().splitlines()
    assert status == 200 and len(lines) == 20000 and lines[-1] == "19999,item 19999"


def test_views_that_wait_do_so_side_by_side(example):
    browser = Browser(example)
    began = time.monotonic()
    threads = [threading.Thread(target=browser.call, args=("/slow?seconds=1",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 3.5  # four at once on at least one worker's threads


def test_an_exception_is_a_500_and_its_traceback_is_logged(example):
    assert Browser(example).call("/broken")[0] == 500
    wait_for(lambda: "RuntimeError: this ends in the log" in example.log, "the traceback")
