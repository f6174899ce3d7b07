"""Runs a program that prints a JSON object and keeps it, with date, machine and commit, in results/NAME.jsonl.

  results.py NAME -- COMMAND ...

The last line that starts with `{` counts. Nothing is appended if the run fails. pair.py and tables.py use this file.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "results"


def run(command: list[str]) -> dict:
    """The object printed by `command`, or an exit that says why there is none."""
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        why = f"exit status {done.returncode}" if done.returncode else "printed no line that starts with {"
        sys.exit(f"{' '.join(command)}: {why}\n{done.stderr[-2000:]}")
    return json.loads(lines[-1])


def machine() -> str:
    """CPU model, its cores as seen here, and the features that decide GEMM speed."""
    info: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        info.setdefault(key.strip(), value.strip())
    name = info.get("model name") or platform.machine()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    best = [f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd") if f in flags][:1]
    return ", ".join([f"{name} (family {info['cpu family']}, model {info['model']})" if "model" in info else name,
                      f"{len(os.sched_getaffinity(0))} cores", *best])


def commit() -> str:
    """Short hash; a `+` says that tracked files differ from it."""
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=FOLDER.parent, capture_output=True, text=True)
        return done.stdout.strip()
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def append(name: str, record: dict) -> None:
    """Adds one line to results/NAME.jsonl."""
    stamp = {"name": name, "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": machine(),
             "commit": commit()}
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(stamp | record) + "\n")


def read(name: str) -> list[dict]:
    """All records of results/NAME.jsonl, oldest first."""
    path = FOLDER / f"{name}.jsonl"
    if not path.exists():
        sys.exit(f"{path}: missing; record it with pair.py or results.py")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit("usage: results.py NAME -- COMMAND ...")
    record = run(sys.argv[3:])
    append(sys.argv[1], record)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
