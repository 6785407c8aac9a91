"""iii-config.yaml as frozen structs: durations in milliseconds, sizes in bytes, paths absolute.

`load` is the only door. What is not known is refused with file, field and the nearest known key;
what is absent has a default that works. The engine reads these structs and nothing else.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

from msgspec import Struct, structs

from iii.collector import traces
from iii.errors import ConfigError, IIIError
from iii.formats.fields import Fields
from iii.section_readers import (
    QUEUE_DEFAULTS,
    read_console,
    read_health,
    read_history,
    read_http,
    read_log,
    read_named_queue,
    read_path,
    read_store,
)
from iii.sections import (
    HOUR,
    SECOND,
    ConsoleConfig,
    CorsConfig,
    HealthConfig,
    HistoryConfig,
    HttpConfig,
    LogConfig,
    QueueConfig,
    QueueRules,
    StoreConfig,
    TracesConfig,
)

__all__ = [
    "Config",
    "ConsoleConfig",
    "CorsConfig",
    "HealthConfig",
    "HistoryConfig",
    "HttpConfig",
    "LogConfig",
    "QueueConfig",
    "QueueRules",
    "StoreConfig",
    "TracesConfig",
    "load",
    "usual_file",
]

FILE_NAME = "iii-config.yaml"
_NEARLY = re.compile(r"iii(?:[-_. ]?config)?\.(?:ya?ml|json|toml)(?:\.txt)?", re.IGNORECASE)


class Config(Struct, frozen=True):
    """The whole configuration. `file` is None where defaults were taken for want of a file.
    `queue_defaults`: what `queues` says of every topic."""

    root: Path
    steps: Path
    store: StoreConfig
    file: Path | None = None
    http: HttpConfig = HttpConfig()
    queues: dict[str, QueueConfig] = {}
    queue_defaults: QueueConfig = QueueConfig()
    console: ConsoleConfig = ConsoleConfig()
    instances: int = 1
    history: HistoryConfig = HistoryConfig()
    log: LogConfig = LogConfig()
    traces: TracesConfig | None = None
    health: HealthConfig = HealthConfig()
    shutdown_timeout_ms: int = 10 * SECOND

    def rules(self, topic: str, own: QueueConfig | None = None) -> QueueRules:
        """The rules of `topic` for a trigger whose own config is `own`: what the file says of the topic wins,
        knob by knob, what it says of every topic comes last."""
        usual = dict(_written(self.queue_defaults))
        if topic.startswith("$"):  # a cron or a change of state is never refused
            usual.pop("max_depth", None)
        if usual.get("dead_letter_queue") == topic:
            del usual["dead_letter_queue"]
        written = usual | dict(_written(own)) | dict(_written(self.queues.get(topic)))
        written.setdefault("dead_letter_queue", f"{topic}.failed")
        delay = cast(int, written.get("retry_delay_ms", SECOND))
        if delay > cast(int, written.setdefault("retry_delay_max_ms", max(HOUR, delay))):
            raise ConfigError(
                f"retry_delay ({delay} ms) is above retry_delay_max ({written['retry_delay_max_ms']} ms), "
                "counting the trigger's own config; raise the latter",
                file=str(self.file or ""),
                field=f"queues.{topic}.retry_delay_max",
            )
        return QueueRules(**written)  # type: ignore[arg-type]


def load(
    file: Path | str | None = None,
    *,
    steps: Path | str | None = None,
    data: Path | str | None = None,
    host: str | None = None,
    port: int | None = None,
    instances: int | None = None,
    console_port: int | None = None,
    console: bool | None = None,
) -> Config:
    """Read `file`; None = ./iii-config.yaml, or the defaults for this folder where there is none.

    Keyword arguments win over the file (their paths are relative to the working folder). A .env
    beside the file is loaded into the environment first and overrides nothing that is set there.
    """
    from iii.formats.yaml_source import load_env, read_yaml

    path = Path(file) if file is not None else usual_file()
    root = path.parent.absolute() if path else Path.cwd()
    load_env(root)
    if path is None:
        config = _read(Fields(None, at="", fail=_fail), root, None)
    else:
        source = read_yaml(path)
        for error in source.errors:
            raise error
        config = _read(Fields(source.content, at="", fail=source.fail), root, path.absolute())
    given = {"host": host, "port": port, "instances": instances, "console_port": console_port}
    given |= {} if console is None else {"console": console}
    config = _override(config, Fields(given, at="", fail=_fail))
    if steps is not None:
        config = structs.replace(config, steps=Path(steps).absolute())
    if data is not None:
        config = structs.replace(config, store=structs.replace(config.store, path=Path(data).absolute()))
    return config


def usual_file(folder: Path = Path()) -> Path | None:
    """The folder's iii-config.yaml, in whatever form it is there; None: it is not. ConfigError where another
    file's name shows that it was meant for it."""
    path = folder / FILE_NAME
    if path.exists() or path.is_symlink():
        return path
    for other in sorted(os.listdir(folder)) if folder.is_dir() else ():
        if _NEARLY.fullmatch(other):
            message = f"is not read: rename it to {FILE_NAME}, or name it with -c"
            raise ConfigError(message, file=str(folder / other))
    return None


def load_leniently(file: Path | str | None = None) -> tuple[Config | None, list[ConfigError]]:
    """As `load`, but everything that is wrong: what is, is left out and the rest read again.

    The config is what the rest says, None where the file cannot be read at all.
    """
    from iii.formats.yaml_source import load_env, read_yaml

    errors: list[ConfigError] = []
    try:
        path = Path(file) if file is not None else usual_file()
        if path is None:
            return load(), errors
        load_env(path.parent.absolute())
        source = read_yaml(path)
    except ConfigError as error:
        return None, [error]
    errors += source.errors
    for found in source.errors:
        _leave_out(source.content, found.field, or_around=False)
    while True:
        try:
            read = _read(
                Fields(source.content, at="", fail=source.fail), path.parent.absolute(), path.absolute()
            )
        except ConfigError as error:
            if error.field not in [found.field for found in errors]:  # else it lacks what was left out
                errors.append(error)
            if not _leave_out(source.content, error.field):
                return None, errors
        else:
            return read, errors


def _leave_out(content: object, field: str, *, or_around: bool = True) -> bool:
    """Remove what the dotted `field` names from what was read; keys may have dots of their own. or_around:
    where it is not there, what it would lie in."""
    if not isinstance(content, dict):
        return False
    for key in sorted(content, key=lambda key: len(str(key)), reverse=True):
        inner = field.removeprefix(str(key))
        if field.startswith(str(key)) and (not inner or inner[0] in ".["):
            is_within = inner and isinstance(content[key], dict)
            if is_within and (_leave_out(content[key], inner[1:], or_around=or_around) or not or_around):
                return True
            del content[key]
            return True
    return False


def _fail(field: str, message: str) -> IIIError:
    return ConfigError(message, field=field)


def _override(config: Config, given: Fields) -> Config:
    http = structs.replace(
        config.http,
        host=given.text("host", config.http.host),
        port=given.whole("port", config.http.port, 0, 65535),
    )
    console = structs.replace(
        config.console,
        enabled=given.flag("console", config.console.enabled),
        port=given.whole("console_port", config.console.port, 0, 65535),
    )
    instances = given.whole("instances", config.instances, 1, 256)
    return structs.replace(config, http=http, console=console, instances=instances)


def _written(queue: QueueConfig | None) -> list[tuple[str, object]]:
    knobs = structs.asdict(queue) if queue is not None else {}
    return [(name, value) for name, value in knobs.items() if value is not None]


def _read(top: Fields, root: Path, file: Path | None) -> Config:
    steps, http, store = read_path(top, "steps", "steps", root), read_http(top), read_store(top, root)
    queues = top.each("queues", read_named_queue)
    config = Config(
        file=file,
        root=root,
        steps=steps,
        http=http,
        store=store,
        queue_defaults=queues.pop(QUEUE_DEFAULTS, QueueConfig()),
        queues=queues,
        console=read_console(top),
        instances=top.whole("instances", 1, 1, 256),
        history=read_history(top),
        log=read_log(top),
        traces=traces(top),
        health=read_health(top),
        shutdown_timeout_ms=top.duration("shutdown_timeout", 10 * SECOND, 0, HOUR),
    )
    top.close()
    return config
