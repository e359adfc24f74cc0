"""Reads the numbers that mgr gives: from the control socket, and from the admin listener."""

import re
import threading
import urllib.error
import urllib.request

from mgr_harness import read_response, wait_for

SAMPLE = re.compile(r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-z_0-9]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_0-9]+)="((?:[^"\\]|\\.)*)"')


class Scrape:
    """One text of metrics: types by family, values by series."""

    def __init__(self, text):
        self.text, self.types, self.values, self.labels = text, {}, {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, family, kind = line.split()
                assert family not in self.types, f"{family} stands there twice"
                self.types[family] = kind
                self.labels[family] = set()
            elif not line.startswith("#"):
                name, labels, value = SAMPLE.fullmatch(line).groups()
                pairs = LABEL.findall(labels or "")
                series = (name, *sorted(pairs))
                assert series not in self.values, f"{series} stands there twice"
                self.values[series] = float(value)
                self.labels[self.family_of(name)] |= {key for key, _ in pairs}

    def family_of(self, name):
        return name if name in self.types else re.sub(r"_(bucket|sum|count)$", "", name)

    def __call__(self, name, **labels):
        return self.values[(name, *sorted(labels.items()))]

    def all(self, name, label):
        """Values by what one label says."""
        return {dict(series[1:])[label]: value for series, value in self.values.items()
                if series[0] == name}

    def growing(self):
        """The series that may never fall."""
        return {series: value for series, value in self.values.items()
                if self.types[self.family_of(series[0])] in ("counter", "histogram")}


def scrape(mgr):
    status, text, _ = mgr.api("GET", "/metrics")
    assert status == 200
    return Scrape(text)


def admin_address(mgr):
    """Where the admin listener of an `admin` with port 0 is, once it says so."""
    found = wait_for(lambda: re.search(r"admin listener (\S+)", mgr.log), "the admin listener")
    return found.group(1)


def admin(mgr, path, method="GET", seconds=5):
    """(status, headers, body) of one request to the admin listener."""
    request = urllib.request.Request(f"http://{admin_address(mgr)}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def ask(mgr, path):
    """One request on a connection of its own, to the end: the worker has counted it then."""
    with mgr.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return read_response(connection).status


class Watcher:
    """Scrapes as fast as it can; afterwards no series may have fallen or gone."""

    def __init__(self, mgr):
        self.mgr, self.scrapes, self.problems = mgr, 0, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        last = {}
        while not self.over.is_set():
            now = scrape(self.mgr).growing()
            for series, value in last.items():
                if series not in now or now[series] < value:
                    self.problems.append((series, value, now.get(series)))
            last = now
            self.scrapes += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join(20)
        if kind is None:
            assert not self.problems, self.problems[:5]
            assert self.scrapes > 20, "hardly looked"
