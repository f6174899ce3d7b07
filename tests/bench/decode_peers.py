"""Reading prompts and generating with one GGUF file: attar, llama.cpp and ik_llama.cpp in turn, and the memory's speed.

  decode_peers.py ATTAR BENCH_READ [--rounds N] [--threads 1,2] [--prompt 512] [--gen 32] [--dry] FILE.gguf ...

LLAMA_BIN and IK_BIN are folders with each peer's llama-bench; one of them is enough. In each round every program
measures both tests once, the first one to run is another one each time. A line per file and number of threads goes to
tests/bench/results/decode.jsonl: medians, quartiles and values of every program, and of the ratio, within each round,
to the better of the peers.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import results
from pair import spread

TESTS = ("prompt", "gen")


def bench(program: list[str], file: str, threads: int, a: argparse.Namespace) -> dict[str, float]:
    """Tokens a second of both tests."""
    command = [*program, "-m", file, "-p", str(a.prompt), "-n", str(a.gen), "-t", str(threads), "-r", "1", "-o", "json"]
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}  # each as it is started by hand
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    rows = json.loads(done.stdout[done.stdout.index("["):])
    return {test: next(r["avg_ts"] for r in rows if bool(r["n_prompt"]) == (test == "prompt")) for test in TESTS}


def warm(file: str) -> None:
    """Has the file in memory: where a system takes it back meanwhile, the first to map it would wait for the disk."""
    with open(file, "rb", buffering=0) as f:
        while f.read(1 << 24):
            pass


def bytes_a_token(file: str) -> int:
    """What generating reads of the weights: all but the embedding, which is read where it is the head too."""
    tensors = {t.name: int(t.n_bytes) for t in gguf.GGUFReader(file).tensors}
    return sum(tensors.values()) - (tensors["token_embd.weight"] if "output.weight" in tensors else 0)


def measure(programs: dict[str, list[str]], file: str, threads: int, a: argparse.Namespace) -> dict:
    values: dict[str, dict[str, list[float]]] = {test: {p: [] for p in programs} for test in TESTS}
    read = []
    order = list(programs)
    for _ in range(a.rounds):
        read.append(results.run([a.bench_read, str(threads)])["gb_s"])
        for program in order:
            warm(file)
            for test, rate in bench(programs[program], file, threads, a).items():
                values[test][program].append(rate)
        order = order[1:] + order[:1]
    record: dict = {"model": Path(file).stem, "threads": threads, "rounds": a.rounds, "prompt": a.prompt, "gen": a.gen,
                    "read_gb_s": spread(read), "bytes_a_token": bytes_a_token(file)}
    for test in TESTS:
        sides = {p: spread(v) for p, v in values[test].items()}
        best = max((p for p in programs if p != "attar"), key=lambda p: sides[p]["median"])
        ratios = [x / y for x, y in zip(values[test]["attar"], values[test][best])]
        record[test + "_sides"] = {p: s | {"values": values[test][p]} for p, s in sides.items()}
        record[test + "_best"], record[test + "_ratio"] = best, spread(ratios)
        print(f"{record['model']} {threads} threads {test}: " + ", ".join(f"{p} {s['median']:g}" for p, s in sides.items())
              + f"; {record[test + '_ratio']['median']:.2f} of {best}", flush=True)
    return record


def main() -> None:
    p = argparse.ArgumentParser(description="compare with llama.cpp and ik_llama.cpp")
    p.add_argument("attar")
    p.add_argument("bench_read")
    p.add_argument("file", nargs="+")
    p.add_argument("--rounds", type=int, default=10)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--gen", type=int, default=32)
    p.add_argument("--dry", action="store_true", help="append nothing")
    a = p.parse_args()
    programs = {"attar": [a.attar, "bench"]}
    for name, variable in (("llama.cpp", "LLAMA_BIN"), ("ik_llama.cpp", "IK_BIN")):
        if folder := os.environ.get(variable):
            programs[name] = [str(Path(folder) / "llama-bench")]
        else:
            print(f"SKIPPED {name}: {variable} is not set")
    if len(programs) == 1:
        sys.exit("no peer: set LLAMA_BIN, IK_BIN or both")
    for file in a.file:
        for threads in map(int, a.threads.split(",")):
            record = measure(programs, file, threads, a)
            if not a.dry:
                results.append("decode", record)


if __name__ == "__main__":
    main()
