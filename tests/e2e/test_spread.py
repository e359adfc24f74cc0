"""How connections spread over workers: by `random` no worse than chance, by `shared` at most 1.3 times the
mean."""

import contextlib
import socket
import time
from math import comb

import pytest
from mgr_harness import read_response, wait_for

# That chance itself fails one of the tests below is less probable than this, all of them together.
PROBABILITY = 1e-7
CASES = [(connections, workers) for connections in (64, 1000) for workers in (2, 4, 8)]


def worst_by_chance(connections, workers):
    """The largest share that independent, even choices exceed with PROBABILITY at most: the tail of the
    binomial distribution, summed over the workers."""
    tail = 0.0
    for count in range(connections, 0, -1):
        here = comb(connections, count) * (workers - 1) ** (connections - count) / workers ** connections
        if (tail + here) * workers > PROBABILITY / len(CASES):
            return count
        tail += here
    raise AssertionError("unreachable")


def test_the_bound_is_one_that_a_bad_spread_exceeds():
    # All on one worker; and twice the mean with many connections.
    assert all(worst_by_chance(*case) < case[0] for case in CASES)
    assert all(worst_by_chance(1000, workers) < 2 * 1000 / workers for workers in (2, 4, 8))


def spread(mgr, connections):
    """How many each worker has, of so many that are opened one after the other and stay."""
    host, port = mgr.address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        for _ in range(connections):
            one = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            one.sendall(b"GET /echo/x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(one).status == 200
            time.sleep(0.001)  # the one that has answered waits again before the next comes
        counts = [worker["connections"] for worker in mgr.status_now()["workers"]]
    assert sum(counts) == connections
    wait_for(lambda: not any(worker["connections"] for worker in mgr.status_now()["workers"]), "closed")
    return counts


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_random_is_no_worse_than_chance(make_mgr, workers):
    mgr = make_mgr("echo", workers=workers, balance="random", keep_alive="1m").start()
    for connections in (64, 1000):
        counts = spread(mgr, connections)
        print(f"random: {connections} over {workers}: max/mean {max(counts) * workers / connections:.2f} {counts}")
        assert max(counts) <= worst_by_chance(connections, workers)


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_shared_is_at_most_1_3_times_the_mean(make_mgr, workers):
    mgr = make_mgr("echo", workers=workers, balance="shared", keep_alive="1m").start()
    for connections in (64, 1000):
        counts = spread(mgr, connections)
        print(f"shared: {connections} over {workers}: max/mean {max(counts) * workers / connections:.2f} {counts}")
        assert max(counts) <= 1.3 * connections / workers
