"""examples/fastapi, as it stands, with Debian's FastAPI."""

import json
import socket
import time
import urllib.error
import urllib.request

import pytest
from mgr_harness import ROOT, Load, copy_tree, no_loss, wait_for


@pytest.fixture
def example(make_mgr):
    mgr = make_mgr("echo", target=None, workers=2, min_ready="200ms")
    copy_tree(ROOT / "examples/fastapi", mgr.directory)
    return mgr.start()


def call(mgr, path, body=None):
    """(status, decoded JSON)"""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{mgr.address}{path}", data=data,
                                     headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_path_parameter_and_a_query_parameter(example):
    assert call(example, "/hello/world") == (200, {"greeting": "Hello, world!"})
    assert call(example, "/hello/w%C3%B6rld?times=2") == (200, {"greeting": "Hello, wörld!Hello, wörld!"})
    assert call(example, "/hello/world?times=often")[0] == 422


def test_a_pydantic_body_and_a_state_from_the_lifespan(example):
    order = {"item": "tea", "quantity": 3, "price": 2.5}
    assert call(example, "/orders", order) == (201, {"total": 7.5, "currency": "EUR"})


def test_a_wrong_body_is_422_and_says_where(example):
    status, answer = call(example, "/orders", {"item": "", "quantity": 0})
    assert status == 422
    assert {error["loc"][-1] for error in answer["detail"]} == {"item", "quantity", "price"}


def test_the_background_task_runs_after_the_response(example):
    for _ in range(5):
        call(example, "/orders", {"item": "tea", "quantity": 3, "price": 1})

    def journal():
        return call(example, "/journal")[1]["entries"]

    wait_for(lambda: "3 x tea" in journal(), "an entry in some worker's journal")


def test_a_streaming_response_arrives_piece_by_piece(example):
    with example.connect() as connection:
        connection.sendall(b"GET /count/40 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        pieces, times = [], []
        while data := connection.recv(65536):
            pieces.append(data)
            times.append(time.monotonic())
    text = b"".join(pieces)
    assert b"transfer-encoding: chunked" in text.lower()
    assert text.endswith(b"0\r\n\r\n") and b"\r\n40\n\r\n" in text
    assert len(pieces) >= 10 and times[-1] - times[0] > 0.2


def test_a_client_that_leaves_a_stream_does_not_disturb_the_others(example):
    for _ in range(20):
        with example.connect() as connection:
            connection.sendall(b"GET /count/1000 HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(100)
    assert call(example, "/hello/world")[0] == 200
    wait_for(lambda: sum(worker["in_flight"] for worker in example.workers()) == 0, "all have ended")


def test_a_sync_endpoint_runs_in_the_thread_pool(example):
    assert call(example, "/thread") == (200, {"main_thread": False})


def test_every_worker_answers(example):
    seen = {call(example, "/")[1]["worker"] for _ in range(50)}
    assert seen == {worker["pid"] for worker in example.workers()}


def test_the_documentation_pages_are_served(example):
    status, schema = call(example, "/openapi.json")
    assert status == 200 and "/orders" in schema["paths"]
    assert example.get("/docs")[0] == 200
    assert example.get("/nothing")[0] == 404


def test_posts_to_the_example_survive_reload_and_scale(example):
    sync = Load(example, "new", 50, path="/thread", verify=False, expect_body_prefix='{"main_thread":false}')
    path = Load(example, "keep", 100, path="/hello/{id}", connections=8, depth=2)
    with no_loss(sync, path):
        example.must("reload")
        example.must("scale", 4)
        example.must("restart")
        example.must("scale", 1)


def test_the_example_shuts_down_cleanly(example):
    host, port = example.address.split(":")
    example.must("stop")
    assert example.wait_exit() == 0
    assert "Traceback" not in example.log
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), 1)
