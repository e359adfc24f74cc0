"""Half-open handshakes survive reload and scaling: two namespaces, 5 % of the packets dropped."""

import pytest
from mgr_harness import Load, no_loss


@pytest.mark.parametrize("preload", ["on", "off"])
def test_reload_and_scale_lose_nothing_while_packets_are_lost(make_mgr, network, preload):
    address = f"{network.ADDRESS}:8000"
    # A packet that is lost time and again comes after 10 s: longer timers than on a good network.
    # A request that comes after the end of keep_alive is lost by HTTP's own rules.
    mgr = make_mgr("echo", workers=2, preload=preload, min_ready="200ms", bind=address,
                   keep_alive="60s", header_timeout="60s", graceful_timeout="60s",
                   command_prefix=network.inside(network.server)).start()
    network.drop(5)
    options = dict(prefix=network.inside(network.client), connect=address, timeout=40)
    loads = (Load(mode="new", rate=200, **options),
             Load(mode="keep", rate=200, connections=32, depth=2, **options))
    with no_loss(*loads):
        for _ in range(5):
            mgr.must("reload")
        for wanted in (8, 1, 4):
            mgr.must("scale", wanted)
    assert network.dropped() > 300
