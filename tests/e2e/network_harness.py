"""Network namespaces of a test's own: packets that get lost, hosts without IPv6."""

import os
import shutil
import subprocess
import uuid


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
    """Server and client namespace joined by a veth pair, which drop() makes lossy."""

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
        """Loses packets on their way in, at both ends, as a wire does. On their way out would be something
        else: a sender is told, and the kernel gives up a half-open connection whose SYN-ACK it could not
        send again."""
        rule = (f"chain input {{ type filter hook input priority 0; "
                f"meta l4proto tcp numgen random mod 100 < {percent} counter drop; }}")
        for name in (self.server, self.client):
            sh("ip", "netns", "exec", name, "nft", f"table inet loss {{\n{rule}\n}}")

    def dropped(self):
        words = []
        for name in (self.server, self.client):
            words += sh("ip", "netns", "exec", name, "nft", "list", "table", "inet", "loss").stdout.split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    def inside(self, namespace):
        return ["ip", "netns", "exec", namespace]

    def close(self):
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20)
