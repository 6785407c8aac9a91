"""The Dockerfile of a project that `iii create` wrote: its lines run in an empty environment and folder."""

from __future__ import annotations

import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
from deadline import until
from iii_project import Project
from image import Image, instructions

from iii import __version__

ROOT = Path(__file__).parents[2]
QUOTE = """
import tiny_prices
from shop.money import shown

from iii import http

config = {"name": "Quote", "triggers": [http("GET", "/quote")]}


async def handler():
    return {"price": shown(tiny_prices.PRICE)}
"""


def created(folder: Path) -> Path:
    """A project with a dependency, a package that its steps share, secrets and data."""
    Project(folder).ok("create", str(folder / "mine"))
    mine = folder / "mine"
    command = [
        sys.executable,
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
        "--outdir",
        str(mine / "wheels"),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    wheel(mine / "wheels", "tiny_prices", "PRICE = 250")
    with (mine / "requirements.txt").open("a") as file:
        file.write("tiny-prices==1.0\n")
    (mine / "shop").mkdir()
    (mine / "shop" / "money.py").write_text("def shown(cents):\n    return f'{cents / 100:.2f}'\n")
    (mine / "steps" / "quote_step.py").write_text(QUOTE)
    (mine / ".env").write_text("KEY=secret\n")
    (mine / "data").mkdir(mode=0o700)
    (mine / "data" / "secret").touch()
    return mine


def wheel(folder: Path, name: str, source: str) -> None:
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", source)
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(
            f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_created_project_runs_as_an_image(tmp_path: Path) -> None:
    project, port = created(tmp_path), free_port()
    config = project / "iii-config.yaml"
    config.write_text(config.read_text().replace("port: 3000", f"port: {port}") + "console: {port: 0}\n")
    image = Image(project / "Dockerfile", project, tmp_path / "root", port)
    app = image.root / "app"
    assert {each.name for each in app.iterdir()} >= {"steps", "shop", "iii-config.yaml", "data"}
    assert not (app / ".env").exists() and list((app / "data").iterdir()) == []
    with image.start() as container:
        until(lambda: image.is_healthy() or container.has_ended(), "it is healthy")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get("/quote").json() == {"price": "2.50"}, container.text()
            assert client.post("/hello", json={"name": "Ada"}).json() == {"greeting": "Hello, Ada!"}
        until(
            lambda: '"count": 1' in image.run("iii", "state", "get", "greetings", "Ada", "--json"), "counted"
        )
        assert container.stop() == 0, container.text()
    image.run("iii", "create", str(tmp_path / "again"))  # all of the template is in the package
    assert (tmp_path / "again" / "Dockerfile").read_text() == (project / "Dockerfile").read_text()
    assert not image.is_healthy()


def test_the_requirements_name_the_version_that_wrote_them(tmp_path: Path) -> None:
    Project(tmp_path).ok("create", str(tmp_path / "mine"))
    assert f"iii-engine=={__version__}\n" in (tmp_path / "mine" / "requirements.txt").read_text()


def test_the_document_is_the_file_that_create_writes(tmp_path: Path) -> None:
    Project(tmp_path).ok("create", str(tmp_path / "mine"))
    assert (ROOT / "docs/Dockerfile").read_text() == (tmp_path / "mine" / "Dockerfile").read_text()


def test_an_image_from_source_serves_as_one_of_a_project() -> None:
    """What comes after the packages are there is the same."""
    source, project = (
        list(instructions((ROOT / "docs" / name).read_text())) for name in ("source.Dockerfile", "Dockerfile")
    )
    tails = [each[each.index(("USER", "app")) :] for each in (source, project)]
    assert tails[0] == tails[1]
