"""Fetch a large file over HTTP: resumed where it broke, checked, whole or not there."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from .unpack import need_space

_CHUNK = 2**20


def fetch(
    url: str,
    target: Path,
    digest: str = "",
    *,
    tries: int = 5,
    pause: float = 2.0,
    progress: bool = False,
) -> None:
    """Fetch `url` into `target`.

    A part that an earlier call left is gone on with (HTTP Range) if the server still has the same file.

    Args:
        url: http or https.
        target: the file; `target`.part holds what has come so far.
        digest: "md5:...", "sha1:..." or "sha256:..." of the whole; "" where none is published.
        tries: connections in a row that may bring nothing before it is given up.
        pause: seconds between them.
        progress: show a bar with rate and remaining time.

    Raises:
        OSError: the server cannot be reached or refuses, or the disk has not enough free space; what has come
            is kept.
        ValueError: the digest is another; the file is deleted.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, failures = target.with_name(f"{target.name}.part"), 0
    while True:
        before = _size(part)
        try:
            if _receive(url, part, bool(digest), progress):
                break
            error: Exception = ConnectionError(f"the connection broke after {_size(part)} bytes")
        except urllib.error.HTTPError as refused:
            if refused.code < 500:  # the address is wrong or closed: to ask again helps with 5xx alone
                raise OSError(f"{url}: the server answers {refused.code} {refused.reason}") from refused
            error = refused
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as broken:
            error = broken
        # A connection that brought something is no failure: a large file over a poor line takes many.
        failures = 0 if _size(part) > before else failures + 1
        if failures >= tries:
            kept = f"{_size(part)} bytes are kept in {part}, the same command goes on from there"
            raise OSError(f"{url}: {error}; {kept}") from error
        time.sleep(pause if failures else 0)
    try:
        check_digest(part, digest)
    except ValueError:
        _forget(part)
        raise
    # The file has its name when it is whole and checked, never before.
    os.replace(part, target)
    _tag(part).unlink(missing_ok=True)


def check_digest(path: Path, digest: str) -> None:
    """Whether a file has a digest "algorithm:hex"; "" fits every file.

    Raises:
        ValueError: it has another.
    """
    if not digest:
        return
    algorithm, _, wanted = digest.partition(":")
    got = hash_file(path, algorithm)
    if got != wanted:
        hint = "the file is damaged or was changed: download it again"
        raise ValueError(f"{path.name}: got {algorithm} {got}, expected {wanted}; {hint}")


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _receive(url: str, part: Path, checked: bool, progress: bool) -> bool:
    """Append what the server sends to `part`; whether the file is whole then."""
    have = _size(part)
    tag = _tag(part).read_text(encoding="utf-8") if _tag(part).exists() else ""
    # Some servers refuse Python's own name.
    request = urllib.request.Request(url, headers={"User-Agent": "infoclip-lite"})
    # Without a tag or a digest, the rest could be that of another version of the file.
    if have and (tag or checked):
        request.add_header("Range", f"bytes={have}-")
        if tag:
            request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # 416, "no such range": there is no more to send, if the server's length is what is here.
        if re.fullmatch(rf"bytes \*/{have}", error.headers.get("Content-Range", "")):
            return True
        _forget(part)
        return False
    with response:
        start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        resumed = response.status == 206 and start is not None and int(start[1]) == have
        if response.status == 206 and not resumed:
            _forget(part)
            return False
        # A server that cannot resume sends all (200): begin again.
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        need_space(part.parent, int(length or 0), f"download {part.name.removesuffix('.part')}")
        etag = response.headers.get("ETag") or "W/"
        bar = tqdm(
            total=have + int(length) if length else None,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            disable=not progress,
        )
        with open(part, "ab" if resumed else "wb") as file, bar:
            # A weak tag (W/) says nothing of bytes: the server would not go on from it.
            weak = etag.startswith("W/")
            _tag(part).write_text(response.headers.get("Last-Modified") or "" if weak else etag)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return length is None or _size(part) == have + int(length)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tag(part: Path) -> Path:
    """Where the server's name for this version of the file is kept."""
    return part.with_name(f"{part.name}.tag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)
