"""The systemd unit and the Dockerfiles of docs/ run the engine with no more rights than it needs."""

from __future__ import annotations

import re

import pytest
from source_files import ROOT

UNIT = (ROOT / "docs/iii.service").read_text()

LOCKED = {
    "UMask": "0077", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes",
    "PrivateTmp": "yes", "PrivateDevices": "yes", "CapabilityBoundingSet": "", "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes", "ProtectProc": "invisible", "SystemCallFilter": "@system-service",
    "LimitCORE": "0",
}  # fmt: skip
BREAKS_IT = {"ProcSubset", "MemoryDenyWriteExecute", "PrivateUsers", "PrivateNetwork", "DynamicUser"}
"""The boot id lies in /proc/sys; steps may compile; the data belong to a user that stays."""


def _settings() -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z]+)=(.*)$", UNIT, re.MULTILINE))


def test_the_unit_may_write_its_data_alone_and_gains_no_rights() -> None:
    settings = _settings()
    assert {name: settings.get(name) for name in LOCKED} == LOCKED
    assert settings["ReadWritePaths"] == f"{settings['WorkingDirectory']}/data"
    assert settings["User"] not in ("", "root") and not BREAKS_IT & settings.keys()


def test_the_unit_lets_the_engine_roll_and_drain() -> None:
    settings = _settings()
    assert (settings["KillMode"], settings["ExecReload"]) == ("mixed", "/bin/kill -HUP $MAINPID")
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(settings["RestrictAddressFamilies"].split())


@pytest.mark.parametrize("name", ["Dockerfile", "source.Dockerfile"])
def test_the_image_runs_as_a_user_whose_volume_is_closed_to_others(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    assert "install -d -m 700 -o app -g app /app/data" in text
    user, volume, command = (text.index(f"\n{each}") for each in ("USER app", "VOLUME /app/data", "CMD"))
    assert text.index("/app/data\n") < user < volume < command
