"""A test run is its own: what its starter ignores, blocks or masks reaches no process that a test starts,
and no test fails because the machine is slow today.

A shell script starts `make test &` with SIGINT ignored, nohup with SIGHUP, some with a mask for new files of
their own. What the engine makes of such surroundings is tested in cli/test_surroundings.py.
"""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGCHLD,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
