"""What tells that the store's file is damaged: the errors that mean it, and a walk over its pages.

The walk reads the file itself, never through LMDB, which ends the process on some broken pages (SIGABRT,
SIGSEGV). Must not know the tables: what rows have to be is verify.py's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb
import msgspec

from iii.errors import StoreDamaged, StoreError

__all__ = ["REMEDY", "damaged", "explained", "explaining", "page_findings"]

REMEDY = "stop what uses it and put a backup in its place (`iii check` says what is wrong)"
LOOKS = 3

_LMDB = (
    lmdb.BadTxnError,  # what follows an error within the same transaction
    lmdb.CorruptedError,
    lmdb.CursorFullError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.ProblemError,
)
_ROWS = (msgspec.DecodeError, UnicodeDecodeError)


def damaged(file: Path, finding: object) -> StoreDamaged:
    return StoreDamaged(f"{file} is damaged ({finding}): {REMEDY}")


def explained(error: Exception, file: Path) -> StoreError | None:
    """The error of the tree for what LMDB or a row's decoder raised; None where it is neither's."""
    if isinstance(error, lmdb.PanicError):
        return StoreDamaged(
            f"{file} is written no more, the disk reports an I/O error ({error}): check it (`dmesg`) and "
            "start again, or put a backup on another one"
        )
    if isinstance(error, _LMDB):
        return damaged(file, error)
    if isinstance(error, _ROWS) or (isinstance(error, struct.error) and "unpack" in str(error)):
        return damaged(file, f"a row cannot be read: {error}")
    return StoreError(f"{file} cannot be used: {error}") if isinstance(error, lmdb.Error) else None


@contextmanager
def explaining(file: Path) -> Iterator[None]:
    """What LMDB or a row's decoder raises within leaves as an error of the tree."""
    try:
        yield
    except Exception as error:
        if (told := explained(error, file)) is None:
            raise
        raise told from error


def page_findings(file: Path) -> list[str]:
    """What is wrong with the pages, [] where nothing is; about 100 MB a second.

    Others may commit meanwhile if a read transaction of the caller's keeps what it sees from being reused.
    A page that was being written just then is no finding: what is wrong stays wrong.
    """
    from lmdb import verify  # hardly ever needed

    findings: list[str] = []
    for _ in range(LOOKS):
        try:
            findings = verify.verify(str(file))  # type: ignore[no-untyped-call]
        except verify.VerifyError as error:
            findings = [str(error)]
        if not findings:
            break
    return findings
