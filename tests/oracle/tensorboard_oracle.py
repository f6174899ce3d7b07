"""What attar writes for TensorBoard, read by TensorBoard: every number and sample of metrics.jsonl, and nothing else.

    python tests/oracle/tensorboard_oracle.py ./attar

Trains a small model that is killed on its way and goes on. Both a reader that saw the first part and one that comes
afterwards must hold the metrics of the resumed run. Exit status 0 if they do.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.util import tensor_util

ATTAR = str(Path(sys.argv[1] if len(sys.argv) > 1 else "./attar").resolve())
CONFIG = """
name: t
data: {corpus: text.txt, tokenizer: {type: byte}, valid: tail, split_on: none}
model: {n_layers: 2, d_model: 64, n_heads: 4, d_ff: 128, context: 64}
stages:
  - pretrain: {steps: 120, batch_tokens: 2Ki, lr: 1e-3, eval_every: 10, sample_every: 20, sample_tokens: 20,
               sample_prompt: "the ", save_every: 25, tensorboard: true}
"""
Key = tuple[str, int]


def same(ours: dict[Key, list], theirs: dict[Key, list]) -> str:
    """What differs first; empty if nothing does."""
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key, []), theirs.get(key, [])
        if len(a) != len(b) or any(x != y and not (x != x and y != y) for x, y in zip(a, b)):
            return f"{key[0]} at step {key[1]}: metrics.jsonl has {a}, TensorBoard {b}"
    return ""


def lines(path: Path) -> dict[Key, list]:
    found: dict[Key, list] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(line)
        step = line.pop("step")
        if "sample" in line:
            found.setdefault(("sample", step), []).append(line["prompt"] + line["sample"])
        group = "valid" if any(key.startswith("valid_") for key in line) else "train"
        for key, x in line.items():
            if x is None or isinstance(x, (int, float)):
                tag = f"{group}/{key.removeprefix('valid_')}"
                found.setdefault((tag, step), []).append(float(np.float32(math.nan if x is None else x)))
    return found


def events(reader: PluginEventAccumulator | EventAccumulator) -> dict[Key, list]:
    found: dict[Key, list] = {}
    reader.Reload()
    for tag in reader.Tags().get("scalars", []):
        for e in reader.Scalars(tag):
            found.setdefault((tag, e.step), []).append(e.value)
    for tag in reader.Tags()["tensors"]:
        for e in reader.Tensors(tag):
            x = tensor_util.make_ndarray(e.tensor_proto).item()
            found.setdefault((tag, e.step), []).append(x.decode() if isinstance(x, bytes) else x)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = "the king went out of his house and said unto them thus".split()
        text = " ".join(words[i * i % 7 + i % 5] for i in range(20000))
        (folder / "text.txt").write_text(text, encoding="utf-8")
        (folder / "t.yaml").write_text(CONFIG, encoding="utf-8")
        stage = folder / "runs" / "t" / "01-pretrain"
        metrics = stage / "metrics.jsonl"
        child = subprocess.Popen([ATTAR, "run", "t.yaml"], cwd=folder, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (metrics.exists() and '"step":60' in metrics.read_text(encoding="utf-8")):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit("FAIL the run did not come to step 60")
            time.sleep(0.005)
        child.kill()
        child.wait()
        # the one that TensorBoard itself holds its data in, and the one that others read files with
        early = PluginEventAccumulator(str(stage / "tensorboard"), size_guidance={"tensors": 0})
        killed = events(early)
        subprocess.run([ATTAR, "run", "t.yaml"], cwd=folder, check=True, capture_output=True)
        late = EventAccumulator(str(stage / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
        ours, failed = lines(metrics), 0
        if not any(step > 50 for _, step in killed):
            sys.exit("FAIL nothing had been written when the run was killed")
        for who, reader in (("from the start", early), ("afterwards", late)):
            off = same(ours, events(reader))
            print(f"{'FAIL' if off else 'ok  '} read {who}: {off or f'{len(ours)} values, the same'}")
            failed += bool(off)
        sys.exit(bool(failed))


if __name__ == "__main__":
    main()
