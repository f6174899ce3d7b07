"""What the comparisons of files with other programs share: commands, differences, perplexities, a model to compare."""

import re
import subprocess
import sys
from pathlib import Path

found: list[str] = []  # differences, in words


def check(what: str, good: bool) -> None:
    if not good:
        found.append(what)
        print(f"  WRONG: {what}", flush=True)


def ended() -> int:
    """The sum; the exit status."""
    print(f"{len(found)} differences")
    return 1 if found else 0


def run(*command: object, cwd: str | Path | None = None) -> str:
    """What it prints; the end of everything if it fails."""
    argv = list(map(str, command))
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def perplexity(*command: object, cwd: str | Path | None = None) -> float:
    """Over all of its --chunks, by attar perplexity or llama-perplexity. The latter often ends before its log's last lines
    are out: it is asked for a chunk more, and again where even that is not enough."""
    argv = list(map(str, command))
    at = argv.index("--chunks") + 1
    wanted, argv[at] = argv[at], str(int(argv[at]) + 1)
    for _ in range(10):
        found = re.search(rf"\[{wanted}\]([0-9.]+)", run(*argv, cwd=cwd))
        if found:
            return float(found[1])
    sys.exit(f"{' '.join(argv)}: it does not say the perplexity of {wanted} chunks")


def train(attar: str, folder: str, name: str, model: str, stages: str) -> None:
    """Runs NAME in the folder: stages of a model whose architecture is NAME's up to a '-', on sums in words."""
    Path(folder, "text.txt").write_text(" ".join(f"{k} times {n} is {k * n}." for k in range(200) for n in range(60)))
    Path(folder, f"{name}.yaml").write_text(f"""name: {name}
data: {{corpus: text.txt, tokenizer: {{type: bpe, vocab_size: 512}}, split_on: none, valid: tail}}
model: {{arch: {name.split('-')[0]}, {"" if "n_heads" in model else "n_heads: 8, "}context: 128, {model}}}
stages:
{stages}""")
    run(attar, "run", f"{name}.yaml", cwd=folder)
