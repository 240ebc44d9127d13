"""The parent: runs cases in children, ends those that take too long or too much, and counts.

    PYTHONPATH=tests python -m fuzz.parent --cases 10000 --seed 0

prints the table of docs/security.md. A child that died, hung or grew is told of, and a new one goes on with the next
case. Nothing that a child does reaches the parent but its lines.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
SECONDS, BYTES = 10.0, 2 * 2**30
"""What one case may take."""
START_SECONDS = 120.0
"""A child imports torch, and a cold kernel cache is filled."""
BATCH = 250
"""Cases that a child does before a fresh one takes over."""
VIEWER_SHARE = 20
"""One case in so many is the viewer's."""


@dataclass(frozen=True)
class Case:
    """How one case ended."""

    number: int
    target: str
    end: str
    """taken, refused, or a fault: traceback, hang, memory, died."""
    said: str
    done: tuple[str, ...]
    seconds: float
    peak: int

    @property
    def fault(self) -> bool:
        """Whether this must not happen."""
        return self.end not in ("taken", "refused")


def run_cases(count: int, seed: int = 0, places: int = 1, tell: Any = None) -> list[Case]:
    """Run `count` cases in `places` children at a time.

    Args:
        count: how many.
        seed: of all of them; a case is its seed and number.
        places: children at a time.
        tell: called with each case as it ends.
    """
    viewer = [number for number in range(count) if number % VIEWER_SHARE == VIEWER_SHARE - 1]
    others = [number for number in range(count) if number % VIEWER_SHARE != VIEWER_SHARE - 1]
    cases: list[Case] = []
    with tempfile.TemporaryDirectory(prefix="ovseg3d-fuzz-") as place:
        base = Path(place) / "base"
        base.mkdir()
        made = list(_talk("make", base, []))
        if not any(line.get("end") == "all" for line, _ in made):
            raise RuntimeError(f"the folders to damage could not be made: {made[-1] if made else ''}")
        work: queue.Queue[tuple[str, list[int]]] = queue.Queue()
        for how, numbers in (("viewer", viewer), ("files", others)):
            for first in range(0, len(numbers), BATCH):
                work.put((how, numbers[first : first + BATCH]))

        def go() -> None:
            while True:
                try:
                    how, numbers = work.get_nowait()
                except queue.Empty:
                    return
                for case in _batch(how, base, seed, numbers):
                    cases.append(case)
                    if tell is not None:
                        tell(case)

        threads = [threading.Thread(target=go) for _ in range(places)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(cases, key=lambda case: case.number)


def _batch(how: str, base: Path, seed: int, numbers: list[int]) -> Any:
    """The cases of one batch; a child that did not live to its end is followed by another."""
    left = list(numbers)
    while left:
        on_start: dict[str, Any] | None = None
        since = time.monotonic()
        for line, _ in _talk(how, base, [seed, *left]):
            if "case" not in line:
                if line.get("end") != "all":
                    number = on_start["case"] if on_start else left[0]
                    target, done = (on_start["target"], on_start["done"]) if on_start else (how, [])
                    left.remove(number)
                    yield Case(number, target, line["end"], line["said"], tuple(done), time.monotonic() - since, 0)
                break
            if "end" not in line:
                on_start, since = line, time.monotonic()
                continue
            left.remove(line["case"])
            on_start = None
            end = "memory" if line["peak"] > BYTES else line["end"]
            seconds = time.monotonic() - since
            yield Case(line["case"], line["target"], end, line["said"], tuple(line["done"]), seconds, line["peak"])


def _talk(how: str, base: Path, numbers: list[int]) -> Any:
    """Lines of a child, and when they came; the last one says how it ended."""
    paths = [TESTS.parent, TESTS, TESTS / "scene", TESTS / "encoders", TESTS / "viewer"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, "-m", "fuzz.worker", how, str(base), *map(str, numbers)]
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=environment, cwd=base
        )
        lines: queue.Queue[bytes | None] = queue.Queue()

        def listen() -> None:
            assert child.stdout is not None
            for line in child.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=listen, daemon=True).start()
        limit, since = START_SECONDS, time.monotonic()
        try:
            while True:
                try:
                    line = lines.get(timeout=0.1)
                except queue.Empty:
                    if _memory(child.pid) > 2 * BYTES:  # before the machine suffers; smaller peaks it tells itself
                        yield {"end": "memory", "said": "the child grew"}, time.monotonic()
                        return
                    if time.monotonic() - since > limit:
                        yield {"end": "hang", "said": f"no answer in {limit:g} s"}, time.monotonic()
                        return
                    continue
                if line is None:
                    child.wait()
                    complaints.seek(0)
                    said = complaints.read()[-3000:].decode(errors="replace")
                    yield {"end": "died", "said": f"exit {child.returncode}\n{said}"}, time.monotonic()
                    return
                try:
                    facts = json.loads(line)
                except ValueError:
                    continue  # a library printed something
                # Between two cases a folder is copied, which is the fuzzer's own work.
                limit, since = (SECONDS if "end" not in facts else START_SECONDS), time.monotonic()
                yield facts, since
                if facts.get("end") == "all":
                    return
        finally:
            child.kill()
            child.wait()


def _memory(pid: int) -> int:
    """Bytes that a process has in memory now."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def table(cases: list[Case]) -> str:
    """The cases as a table in Markdown, a row for each target."""
    heads = "input | cases | refused | taken | tracebacks | over 10 s | over 2 GiB | slowest, s | most memory, GiB"
    rows = [f"| {heads} |", "|---" * 9 + "|"]
    for target in [*dict.fromkeys(case.target for case in cases), "all"]:
        some = [case for case in cases if target in (case.target, "all")]
        ends = Counter(case.end for case in some)
        wrong = ends["traceback"] + ends["died"]
        slowest, most = max(case.seconds for case in some), max(case.peak for case in some) / 2**30
        rows.append(
            f"| {target} | {len(some):,} | {ends['refused']:,} | {ends['taken']:,} | {wrong} | {ends['hang']} | "
            f"{ends['memory']} | {slowest:.1f} | {most:.2f} |"
        )
    return "\n".join(rows)


def describe(case: Case, seed: int) -> str:
    """A fault, so that it can be made again."""
    return f"seed {seed}, case {case.number} ({case.target}): {case.end}\n  {'; '.join(case.done)}\n{case.said}"


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", type=int, default=2, help="children at a time")
    asked = parser.parse_args()
    began = time.monotonic()

    def tell(case: Case) -> None:
        if case.fault:
            print(describe(case, asked.seed), "\n", flush=True)

    cases = run_cases(asked.cases, asked.seed, asked.places, tell)
    print(table(cases))
    print(f"\n{len(cases):,} cases of seed {asked.seed} in {time.monotonic() - began:.0f} s")
    sys.exit(any(case.fault for case in cases))


if __name__ == "__main__":
    main()
