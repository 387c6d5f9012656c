"""The Dockerfile: its instructions fit the repository and the program, and buildah carries out all but RUN.

No base image can be had where the tests run, so what RUN does is not built here; ``make test-wheel`` installs the
package with its dependencies in the same way.
"""

from __future__ import annotations

import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer

from goca.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def instructions(text: str = TEXT) -> list[tuple[str, str]]:
    """Name and arguments of each instruction, of all stages."""
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name.upper(), rest) for name, rest in (line.split(None, 1) for line in joined.splitlines())]


def last_stage() -> dict[str, str]:
    """The instructions of the image itself; of those that stand twice the last."""
    found = instructions()
    start = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


def command() -> list[str]:
    """What the container runs."""
    return [*json.loads(last_stage()["ENTRYPOINT"]), *json.loads(last_stage()["CMD"])]


def health_check() -> list[str]:
    return json.loads(last_stage()["HEALTHCHECK"].partition(" CMD ")[2])


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]
    copied = [rest for name, rest in instructions() if name == "COPY" and not rest.startswith("--from=")]
    sources = [source for rest in copied for source in rest.split()[:-1]]
    assert {"pyproject.toml", "src", "hatch_build.py", "README.md", "LICENSE", "constraints.txt"} == set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        (verdict,) = [each for each in patterns if fnmatch(source, each.lstrip("!"))][-1:]
        assert verdict.startswith("!"), source


def test_the_program_understands_the_command() -> None:
    program, name, *words = command()
    assert program == "goca"
    context = typer.main.get_command(app).commands[name].make_context(name, words)  # type: ignore[attr-defined]
    assert (context.params["host"], context.params["port"]) == ("0.0.0.0", int(last_stage()["EXPOSE"]))


def test_the_service_runs_without_rights() -> None:
    assert int(last_stage()["USER"]) >= 1000
    created = next(rest for name, rest in instructions() if name == "RUN" and "useradd" in rest)
    assert f"--uid {last_stage()['USER']} " in created


def test_the_extras_that_are_installed_exist() -> None:
    tomllib = pytest.importorskip("tomllib", reason="the test reads pyproject.toml with Python 3.11 or newer")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (installed,) = re.findall(r"'\.\[([\w,]+)\]'", TEXT)
    assert set(installed.split(",")) <= extras.keys() and "serve" in installed


def test_arguments_are_declared_before_they_are_used() -> None:
    declared: set[str] = {"PATH"}
    for name, rest in instructions():
        used = set(re.findall(r"\$\{?([A-Z_]+)", rest))
        assert used <= declared, name
        if name == "ARG":
            declared.add(rest.partition("=")[0])


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_the_service(status: int, code: int) -> None:
    asked: list[str] = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program, *words = health_check()
    port = last_stage()["EXPOSE"]
    assert program == "python" and f"127.0.0.1:{port}" in words[-1]
    words[-1] = words[-1].replace(f":{port}", f":{server.server_port}")
    done = subprocess.run([sys.executable, *words], capture_output=True, check=False)
    server.shutdown()
    assert (done.returncode, asked) == (code, ["/health"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed (apt-get install buildah)")
def test_buildah_makes_an_image_of_the_instructions(tmp_path: Path) -> None:
    """From scratch layers: RUN, which needs a base image, is left out, and the sources stand for what it installs."""
    stages = iter(("FROM scratch AS build", "COPY src /opt/goca\nFROM scratch"))
    kept = [next(stages) if name == "FROM" else f"{name} {rest}" for name, rest in instructions() if name != "RUN"]
    (tmp_path / "Dockerfile").write_text("\n".join(kept) + "\n")
    buildah = ["buildah", "--storage-driver", "vfs", "--root", f"{tmp_path}/root", "--runroot", f"{tmp_path}/run"]

    def run(words: str) -> str:
        done = subprocess.run([*buildah, *shlex.split(words)], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode and "permitted" in done.stderr:
            pytest.skip(f"buildah may not build here: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(f"build --isolation chroot --format docker -f {tmp_path}/Dockerfile -t goca-test .")
    config = json.loads(run("inspect --type image goca-test"))["Docker"]["config"]
    assert [*config["Entrypoint"], *config["Cmd"]] == command()
    assert config["Healthcheck"]["Test"] == ["CMD", *health_check()]
    assert config["User"] == last_stage()["USER"] and config["WorkingDir"] == "/home/goca"
    assert list(config["ExposedPorts"]) == [f"{last_stage()['EXPOSE']}/tcp"]
    assert config["Env"][0].startswith("PATH=/opt/goca/bin:")
