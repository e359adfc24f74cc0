"""`tests/bench/memory` works, and processes weigh no more than they may."""

import json
import os
import subprocess
from pathlib import Path

MIB = 1 << 20


def test_workers_share_the_memory_of_what_was_imported(tmp_path):
    result = tmp_path / "memory.json"
    done = subprocess.run(
        [Path(__file__).parent / "memory", "--build", os.environ["BUILD_DIR"], "--examples", "fastapi",
         "--workers", "2", "--requests", "500", "--json", result], capture_output=True, text=True,
        timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| worker, median of 2") == 2
    measured = json.loads(result.read_text())
    with_preload, without = (measured[f"fastapi {preload}"]["workers"] for preload in ("on", "off"))
    for worker in with_preload:
        assert worker["unique"] <= 8 * MIB
        assert worker["unique"] < worker["proportional"] < worker["resident"] <= 33 * MIB
    assert min(worker["unique"] for worker in without) > 2 * max(worker["unique"] for worker in with_preload)
