"""What people type, turned into values: text, JSON (also from stdin), priorities."""

from __future__ import annotations

import os
import sys

import click

from iii.errors import InputError, ValidationError
from iii.formats.json_text import NOT_JSON, parse

__all__ = ["MESSAGE_ID", "json_value", "priority_value", "utf8"]


class _MessageId(click.ParamType[str]):
    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from iii.store.message_ids import SHAPE, is_message_id

        if not is_message_id(value):
            self.fail(f"{value!r} is no id of a message: expected one like {SHAPE}", param, ctx)
        return value


MESSAGE_ID = _MessageId()
"""A message's id as it is typed; what it names the store says."""


def utf8(ctx: click.Context, param: click.Parameter, text: str) -> str:
    """The callback of a text argument: what the shell gave may be any bytes, and is text only as UTF-8."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise click.BadParameter("is not UTF-8", ctx, param)
    return text


def json_value(text: str) -> object:
    """The value of a JSON argument; "-" reads it from stdin."""
    content = sys.stdin.buffer.read() if text == "-" else os.fsencode(text)
    try:
        return parse(content)
    except ValidationError as error:
        [detail] = error.details
        place = f"{detail.path}: " if detail.path else ""
        if error.message != NOT_JSON:
            raise InputError(f"this JSON cannot be stored: {place}{detail.message}") from None
        remedy = "write strings in double quotes and the whole in single ones: '{\"a\": 1}'"
        raise InputError(f"not JSON: {place}{detail.message}; {remedy}") from None


def priority_value(text: str) -> str | int:
    """ "high" or 200, as `enqueue` takes it."""
    return int(text) if text.isdecimal() else text
