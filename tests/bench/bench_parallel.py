"""One run of `attar generate --prompts`: a JSON line with its speed and its memory.

  bench_parallel.py ATTAR MODEL TEXT [--parallel N] [--prompts N] [--samples K] [--tokens N] [--cache-type T]

The prompts are pieces of TEXT of 20 to 80 words. `contiguous_mib` is what the texts under way would take, were each
given the whole context in one piece; `cache_mib` the blocks in use at the peak, `touched_mib` all that were ever used: those of
prompts that ended stay known while nobody needs their memory.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def prompts(text: str, n: int) -> list[str]:
    words = text.split()
    sizes = [20 + i * 37 % 61 for i in range(n)]
    starts = [sum(sizes[:i]) for i in range(n)]
    return [" ".join(words[start:start + size]) for start, size in zip(starts, sizes)]


def figure(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        sys.exit(f"no {pattern} in:\n{text}")
    return float(found[1])


def main() -> None:
    p = argparse.ArgumentParser(description="speed and memory of many texts at once")
    p.add_argument("attar")
    p.add_argument("model")
    p.add_argument("text", type=Path)
    p.add_argument("--parallel", type=int, default=64)
    p.add_argument("--prompts", type=int, default=64)
    p.add_argument("--samples", type=int, default=1)
    p.add_argument("--tokens", type=int, default=64)
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--cache-type", default="f16")
    p.add_argument("--threads", type=int, default=0)
    a = p.parse_args()
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for prompt in prompts(a.text.read_text(encoding="utf-8"), a.prompts):
            file.write(json.dumps({"prompt": prompt}) + "\n")
        file.flush()
        command = [a.attar, "generate", "-m", a.model, "--prompts", file.name, "-s", "1", "-n", str(a.tokens), "-c",
                   str(a.context), "--parallel", str(a.parallel), "--samples", str(a.samples), "--cache-type",
                   a.cache_type, "-t", str(a.threads)]
        with tempfile.TemporaryFile("w+") as notes, tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen(command, stdout=out, stderr=notes)
            _, status, usage = os.wait4(child.pid, 0)
            notes.seek(0)
            said = notes.read()
            out.seek(0)
            texts = sorted(out.readlines())
        if status:
            sys.exit(f"{' '.join(command)}: exit status {status}\n{said[-2000:]}")
    peak = figure(r"cache: (\d+) of", said)
    mib = figure(r"at the peak, ([\d.]+) MiB", said)
    under_way = int(figure(r"at most (\d+) at once", said))
    made = figure(r"generated: (\d+) tokens,", said)
    rate = figure(r"tokens, ([\d.]+) tokens/s", said)
    print(json.dumps({
        "tokens_per_s": rate, "tokens": made, "seconds": round(made / rate, 3), "parallel": under_way,
        "prompts": a.prompts, "samples": a.samples, "context": a.context, "cache_type": a.cache_type,
        "passes": figure(r"(\d+) passes", said), "blocks": peak, "cache_mib": mib,
        "contiguous_mib": round(mib / peak * under_way * -(-a.context // 16), 1),
        "touched_mib": figure(r"MiB of \w+, ([\d.]+) with", said), "shared": figure(r"(\d+) tokens shared", said), "preemptions": figure(r"(\d+) preemptions", said),
        "peak_rss_mib": round(usage.ru_maxrss / 1024, 1), "texts": len(texts)}))


if __name__ == "__main__":
    main()
