"""A process of the lab counts what it keeps when it is asked to, whatever it is doing."""

import json
import os
import signal
import subprocess
import sys
import time

PROGRAM = """
import sys, time
from crossbar_cluster.core.news import Seldom
from crossbar_cluster.lab.census import answer_census

kept = [Seldom(1.0), Seldom(1.0)]
for number in range(5):
    kept[0].due(number, 0.0)
answer_census(sys.argv[1])
print("begun", flush=True)
while True:
    time.sleep(60)
"""
ANSWER_WITHIN_S = 20.0


def test_tables_are_added_up_by_class_and_attribute(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"begun\n"
        os.kill(process.pid, signal.SIGUSR2)
        written = tmp_path / f"census-{process.pid}.json"
        until = time.monotonic() + ANSWER_WITHIN_S
        while not written.exists():
            assert time.monotonic() < until, "no census"
            time.sleep(0.05)
        census = json.loads(written.read_text())
    finally:
        process.kill()
        process.communicate()
    assert census["crossbar_cluster.core.news.Seldom"] == 2
    assert census["crossbar_cluster.core.news.Seldom._told_s"] == 5
