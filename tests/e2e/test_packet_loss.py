"""Half-open handshakes survive reload and scaling: two namespaces, 5 % of the packets dropped."""

import os
import shutil
import subprocess
import uuid

import pytest
from mgr_harness import Load, no_loss


def sh(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)


def namespaces_are_possible():
    if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("ip"):
        return False
    name = f"mgr-probe-{uuid.uuid4().hex[:6]}"
    try:
        sh("ip", "netns", "add", name)
        sh("ip", "netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


class Network:
    """Server and client namespace joined by a veth pair; the server's end drops at random."""

    ADDRESS = "10.177.0.1"

    def __init__(self):
        self.tag = uuid.uuid4().hex[:6]
        self.server, self.client = f"mgr-s-{self.tag}", f"mgr-c-{self.tag}"
        for name in (self.server, self.client):
            sh("ip", "netns", "add", name)
        sh("ip", "link", "add", f"vs{self.tag}", "netns", self.server, "type", "veth",
           "peer", "name", f"vc{self.tag}", "netns", self.client)
        self.up(self.server, f"vs{self.tag}", self.ADDRESS)
        self.up(self.client, f"vc{self.tag}", "10.177.0.2")

    def up(self, namespace, device, address):
        sh("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", device)
        sh("ip", "-n", namespace, "link", "set", device, "up")
        sh("ip", "-n", namespace, "link", "set", "lo", "up")

    def drop(self, percent):
        rules = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; "
            f"meta l4proto tcp numgen random mod 100 < {percent} counter drop; }}\n"
            for hook in ("input", "output"))
        sh("ip", "netns", "exec", self.server, "nft", f"table inet loss {{\n{rules}}}")

    def dropped(self):
        text = sh("ip", "netns", "exec", self.server, "nft", "list", "table", "inet", "loss").stdout
        words = text.split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    def inside(self, namespace):
        return ["ip", "netns", "exec", namespace]

    def close(self):
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)


@pytest.fixture
def network():
    if not namespaces_are_possible():
        pytest.skip("needs root, ip and nft, and network namespaces")
    made = Network()
    yield made
    made.close()


@pytest.mark.parametrize("preload", ["on", "off"])
def test_reload_and_scale_lose_nothing_while_packets_are_lost(make_mgr, network, preload):
    address = f"{network.ADDRESS}:8000"
    mgr = make_mgr("echo", workers=2, preload=preload, min_ready="200ms", bind=address,
                   command_prefix=network.inside(network.server)).start()
    network.drop(5)
    # A lost packet costs 200 ms to seconds: longer timers than on a good network.
    options = dict(prefix=network.inside(network.client), connect=address, timeout=40)
    loads = (Load(mode="new", rate=200, **options),
             Load(mode="keep", rate=200, connections=32, depth=2, **options))
    with no_loss(*loads):
        for _ in range(5):
            mgr.must("reload")
        for wanted in (8, 1, 4):
            mgr.must("scale", wanted)
    assert network.dropped() > 300
