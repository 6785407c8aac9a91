"""What `docker build` and `docker run` do with a Dockerfile, in a folder that stands for the image's root.

Real: its RUN, COPY, ENV, WORKDIR, HEALTHCHECK and CMD lines, in an environment with nothing in it. Not there:
what changes the machine (packages, users), the user's lack of rights, the network's own addresses.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

PLACES = re.compile(r"(?<![\w./}:-])/(src|venv|app|wheels|pip\.txt)\b")
ELSEWHERE = ("apt-get ", "rm -rf /var/lib/apt", "useradd ")
FROM_OUTSIDE = ("PIP_", "SSL_", "REQUESTS_")
"""How the machine reaches its package index."""


class Image:
    """Built at once from a Dockerfile and a context. `port`: in the place of the 3000 that it serves."""

    def __init__(self, dockerfile: Path, context: Path, root: Path, port: int) -> None:
        self.root, self._context, self._port = root, context, port
        self._stages: dict[str, Path] = {}
        self._folder = root
        self._env = {"PATH": f"{self._python()}:/usr/bin:/bin", "HOME": str(root)}
        self._command: list[str] = []
        self._health: list[str] = []
        for name, rest in instructions(dockerfile.read_text()):
            getattr(self, f"_{name.lower()}")(rest)

    # ------------------------------------------------------------------------------------------- running

    def start(self) -> Container:
        return Container(self._command, self._env, self._folder, self.root.parent / "container.log")

    def is_healthy(self) -> bool:
        return (
            subprocess.run(self._health, env=self._env, cwd=self._folder, capture_output=True).returncode == 0
        )

    def run(self, *command: str) -> str:
        """`docker exec`: what it prints."""
        done = subprocess.run(
            command, env=self._env, cwd=self._folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # ------------------------------------------------------------------------------------------ building

    def _python(self) -> Path:
        """`python` of an image that has no package but pip."""
        folder = self.root.parent / "bin"
        folder.mkdir()
        executable = Path(getattr(sys, "_base_executable", sys.executable))
        (folder / "python").symlink_to(executable)
        return folder

    def _from(self, rest: str) -> None:
        """The stage before keeps its files elsewhere: paths are the same in every stage."""
        _, _, name = rest.partition(" AS ")
        if self.root.exists():
            self.root.rename(next(reversed(self._stages.values())))
        self.root.mkdir()
        self._folder = self.root
        if name:
            self._stages[name] = self.root.with_name(f"stage-{name}")

    def _workdir(self, rest: str) -> None:
        self._folder = Path(self._placed(rest))
        self._folder.mkdir(exist_ok=True)

    def _copy(self, rest: str) -> None:
        match = re.match(r"(?:--from=(\w+) )?(\S+) (\S+)$", rest)
        assert match is not None, rest
        stage, source, target = match.groups()
        place = Path(self._placed(target))
        found = self._stages[stage] / source.lstrip("/") if stage else self._context / source
        if found.is_dir():
            shutil.copytree(found, place, symlinks=True, dirs_exist_ok=True, ignore=self._ignored)
        else:
            place.mkdir(exist_ok=True)
            shutil.copy(found, place)

    def _ignored(self, folder: str, names: list[str]) -> set[str]:
        patterns = (self._context / ".dockerignore").read_text().splitlines()
        return {name for name in names if any(name == each.strip("*/") for each in patterns)} & set(names)

    def _run(self, rest: str) -> None:
        commands = [each.strip() for each in rest.split("&&")]
        script = " && ".join(self._placed(each) for each in commands if not each.startswith(ELSEWHERE))
        script = script.replace("-o app -g app", f"-o {os.getuid()} -g {os.getgid()}")
        env = self._env | {name: value for name, value in os.environ.items() if name.startswith(FROM_OUTSIDE)}
        done = subprocess.run(
            ["/bin/sh", "-ec", script or ":"], env=env, cwd=self._folder, capture_output=True
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()

    def _env_(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        self._env[name] = self._placed(value.strip('"')).replace("$PATH", self._env["PATH"])

    def _healthcheck(self, rest: str) -> None:
        self._health = self._arguments(rest.partition("CMD ")[2])

    def _cmd(self, rest: str) -> None:
        self._command = self._arguments(rest)

    def _arguments(self, rest: str) -> list[str]:
        """Found on the image's PATH, which is not the test's."""
        name, *others = json.loads(self._placed(rest).replace("3000", str(self._port)))
        return [shutil.which(name, path=self._env["PATH"]) or name, *others]

    def _user(self, rest: str) -> None:
        assert rest == "app"

    def _volume(self, rest: str) -> None:
        assert Path(self._placed(rest)).is_dir()

    def _expose(self, rest: str) -> None:
        assert rest == "3000"

    def _placed(self, text: str) -> str:
        return PLACES.sub(lambda match: f"{self.root}/{match[1]}", text)


class Container:
    """The command of an image, as a process."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path, log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(command, env=env, cwd=folder, stdout=output, stderr=output)

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def text(self) -> str:
        return self._log.read_text()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> int:
        """`docker stop`: the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """(name, what follows), continued lines joined; ENV is told as ENV_."""
    lines = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield ("ENV_" if name == "ENV" else name), rest.strip()
