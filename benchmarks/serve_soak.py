"""A soak of the service: mixed requests on loopback, a third of them bad, against the plain segmenter in the same run.

    python benchmarks/serve_soak.py [--requests 500] [--callers 16] [--rounds 10] [--json]

Starts ``goca serve`` as a process of its own. In every round the callers send their share of the requests, and then the
plain segmenter segments the good ones' images in this process; so both meet the same load of the machine. Throughput is
good images a second, although the service also answers the bad requests meanwhile; its ratio is the median over the
rounds, with the 95 % interval of the median by resampling rounds. One thread for each of torch's computations.

Exit code 1 where a request is not answered as it should be, the process ends, its memory grows by more than 5 % after
the first fifth of the requests, or the ratio is below 0.9.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import httpx
import numpy as np
import psutil
from PIL import Image

from goca import GocaWarning, Segmenter
from goca.datasets.scenes import make_scene

MODEL, SEED, SIDES = "scenes-dit", 77, (128, 200, 320)
FORMATS = ("json", "json", "json", "labels", "overlay", "labels,json")
GOAL_RATIO, GOAL_GROWTH = 0.9, 1.05


@dataclass(frozen=True)
class Call:
    """A request and the statuses that it may get."""

    name: str
    options: dict[str, Any]
    statuses: tuple[int, ...]
    image: bytes = b""
    classes: tuple[str, ...] = ()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def good_call(number: int) -> Call:
    """A scene with its classes, in one of several formats."""
    scene = make_scene(SEED, number, SIDES[number % len(SIDES)])
    image, classes = png(scene.image), tuple(scene.classes)
    data = {"classes": ",".join(classes), "format": FORMATS[number % len(FORMATS)]}
    return Call("good", {"files": {"image": ("scene.png", image)}, "data": data}, (200,), image, classes)


def bad_calls() -> list[Call]:
    """One request of every bad kind."""
    image, classes = png(make_scene(SEED, 0).image), {"classes": "grass,sky"}

    def form(content: bytes = image, **fields: str) -> dict[str, Any]:
        return {"files": {"image": ("scene.png", content)}, "data": {**classes, **fields}}

    return [
        Call("cut short", form(image[: len(image) // 2]), (422,)),
        Call("no image", form(b"text"), (422,)),
        Call("too many pixels", form(png(Image.new("1", (9000, 9000)))), (413,)),
        Call("too many bytes", form(bytes(40 * 2**20)), (413,)),
        Call("10,000 classes", form(classes=",".join(f"c{number}" for number in range(10_000))), (422,)),
        Call("unknown class", form(classes="grass,<img src=x onerror=alert(1)>"), (422,)),
        Call("control characters", form(classes="grass,\x1b[31m"), (422,)),
        Call("unknown model", form(model="../../etc/passwd"), (422,)),
        Call("unknown format", form(format="exe"), (422,)),
        Call("unknown field", form(clases="grass"), (422,)),
        Call("no JSON", {"content": b"{" * 5000, "headers": {"content-type": "application/json"}}, (422,)),
        Call("other host", {**form(), "headers": {"host": "evil.example"}}, (421,)),
        Call("other site", {**form(), "headers": {"origin": "http://evil.example"}}, (403,)),
    ]


def plan(requests: int) -> list[Call]:
    """The requests in a fixed order, every third of them bad."""
    bad = bad_calls()
    return [bad[at // 3 % len(bad)] if at % 3 == 2 else good_call(at) for at in range(requests)]


async def send(client: httpx.AsyncClient, calls: Sequence[Call], callers: int) -> tuple[list[float], list[str]]:
    """Seconds of the good requests, and a sentence for every answer that is wrong."""
    left, seconds, wrong = list(reversed(calls)), list[float](), list[str]()

    async def caller() -> None:
        while left:
            call = left.pop()
            started = time.perf_counter()
            response = await client.post("/v1/segment", **call.options)
            if call.name == "good":
                seconds.append(time.perf_counter() - started)
            if not is_right(call, response):
                wrong.append(f"{call.name}: {response.status_code} {response.text[:200]}")

    await asyncio.gather(*(caller() for _ in range(callers)))
    return seconds, wrong


def is_right(call: Call, response: httpx.Response) -> bool:
    """Whether the status fits, and a refusal is one sentence in the one shape."""
    if response.status_code not in call.statuses:
        return False
    if response.status_code == 200:
        return len(response.content) > 0
    error = response.json()
    return list(error) == ["error"] and bool(error["error"].strip()) and "\n" not in error["error"]


def start() -> tuple[subprocess.Popen[str], str]:
    """The service, and its address once it answers."""
    command = [sys.executable, "-m", "goca", "serve", "--port", "0", "--model", MODEL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None, "the service did not start"
    url = found[0]
    while httpx.get(f"{url}/health").status_code != 200:
        time.sleep(0.1)
    return process, url


def plain_seconds(segmenter: Segmenter, calls: Sequence[Call], folder: Path) -> float:
    """The time of the plain segmenter for the images of these calls, which it reads from files."""
    paths = [folder / f"{at}.png" for at in range(len(calls))]
    for path, call in zip(paths, calls, strict=True):
        path.write_bytes(call.image)
    started = time.perf_counter()
    for path, call in zip(paths, calls, strict=True):
        segmenter(path, call.classes)
    return time.perf_counter() - started


async def soak(requests: int, callers: int, rounds: int) -> dict[str, Any]:
    """All rounds; figures and findings."""
    calls, segmenter = plan(requests), Segmenter.from_pretrained(MODEL)
    blocks = [calls[at * requests // rounds : (at + 1) * requests // rounds] for at in range(rounds)]
    process, url = start()
    memory, ratios, seconds, wrong = list[int](), list[float](), list[float](), list[str]()
    served = plain = 0.0
    try:
        with tempfile.TemporaryDirectory() as folder:
            plain_seconds(segmenter, [each for each in blocks[0] if each.image], Path(folder))  # warm-up
            async with httpx.AsyncClient(base_url=url, timeout=300) as client:
                for block in blocks:
                    good = [each for each in block if each.image]
                    started = time.perf_counter()
                    taken, found = await send(client, block, callers)
                    of_service = time.perf_counter() - started
                    of_plain = plain_seconds(segmenter, good, Path(folder))
                    served, plain = served + of_service, plain + of_plain
                    ratios.append(of_plain / of_service)
                    memory.append(psutil.Process(process.pid).memory_info().rss)
                    seconds += taken
                    wrong += found
        alive = process.poll() is None
        process.terminate()
        code = process.wait(60)
    finally:
        process.kill()
    warm = memory[max(0, rounds // 5 - 1)]
    return {
        "requests": requests,
        "bad": sum(not each.image for each in calls),
        "callers": callers,
        "wrong": wrong,
        "alive": alive,
        "exit code": code,
        "seconds p50": float(np.percentile(seconds, 50)),
        "seconds p95": float(np.percentile(seconds, 95)),
        "images a second": len(seconds) / served,
        "images a second, plain": len(seconds) / plain,
        "ratio": float(np.median(ratios)),
        "ratio interval": interval(ratios),
        "memory MiB": [round(each / 2**20) for each in memory],
        "growth": max(memory) / warm,
    }


def interval(values: Sequence[float]) -> list[float]:
    """95 % of the medians of resampled values."""
    generator = np.random.default_rng(0)
    medians = np.median(generator.choice(values, (10_000, len(values))), axis=1)
    return [float(each) for each in np.percentile(medians, (2.5, 97.5))]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=GocaWarning)
    found = asyncio.run(soak(options.requests, options.callers, options.rounds))
    print(json.dumps(found, indent=2) if options.json else "\n".join(f"{key}: {found[key]}" for key in found))
    answered = found["alive"] and found["exit code"] == 0 and not found["wrong"]
    sys.exit(0 if answered and found["ratio"] >= GOAL_RATIO and found["growth"] <= GOAL_GROWTH else 1)


if __name__ == "__main__":
    main()
