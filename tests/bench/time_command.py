"""Wall time and memory of a command, N runs after one that is not counted; one JSON line.

  time_command.py [--runs N] [--json FILE | --until FILE TEXT] -- COMMAND ...

--json: also the fields of this JSON file, which the command has written (a stage's summary.json); then a single run
is enough and none comes before it. --until: the time until the file holds the text; the command is then killed, and
the file removed again. The command's output is thrown away; if it fails, its errors are shown.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time


def holds(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return text in file.read()
    except FileNotFoundError:
        return False


def once(command: list[str], until: list[str] | None) -> tuple[float, float]:
    """Seconds, and MiB at the peak."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while until and not holds(*until) and child.poll() is None:
            time.sleep(0.0005)
        seconds = time.perf_counter() - start
        reached = until is not None and holds(*until)
        if reached:
            child.kill()
            os.remove(until[0])
        if child.returncode is None:
            _, child.returncode, usage = os.wait4(child.pid, 0)
            if reached:
                return seconds, usage.ru_maxrss / 1024
            if not child.returncode and not until:
                return time.perf_counter() - start, usage.ru_maxrss / 1024
        errors.seek(0)
        sys.exit(f"{' '.join(command)} failed\n{errors.read().decode(errors='replace')}")


def main() -> None:
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    p = argparse.ArgumentParser(description="time a command")
    p.add_argument("--runs", type=int, default=20)
    p.add_argument("--json")
    p.add_argument("--until", nargs=2)
    a = p.parse_args(sys.argv[1:cut])
    command = sys.argv[cut + 1:]
    if not command or a.runs < 1:
        p.error("a command is needed, and at least one run")
    if not a.json:
        once(command, a.until)
    runs = [once(command, a.until) for _ in range(a.runs)]
    seconds = sorted(s for s, _ in runs)
    record = {"command": " ".join(re.sub(r"(^|=)/\S*/", r"\1", word) for word in command), "runs": a.runs,
              "wall_s": round(statistics.median(seconds), 4), "wall_s_min": round(seconds[0], 4),
              "wall_s_max": round(seconds[-1], 4), "peak_rss_mib": round(max(m for _, m in runs), 1)}
    if a.json:
        with open(a.json, encoding="utf-8") as file:
            read = json.load(file)
        record |= {key: value for key, value in read.items() if isinstance(value, (int, float, str))}
        record |= {fact["name"]: fact["value"] for fact in read.get("facts", [])}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
