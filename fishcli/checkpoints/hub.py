"""The client of the Hugging Face hub: list a repository and download files, with retries and resuming.

The endpoint, the token and the session come from huggingface_hub, so its environment variables apply. Its
`hf_hub_download` is not used because it compares sizes only: it accepts a file of the right size with wrong bytes,
for example one that was resumed after a damaged beginning.
"""

import contextlib
import email.utils
import functools
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from fishcli import __version__
from fishcli.checkpoints import local
from fishcli.checkpoints.local import File, Record
from fishcli.errors import AuthError, FishError, ModelMissing, NetworkError, SettingError

if TYPE_CHECKING:
    from httpx2 import Response

logger = logging.getLogger(__name__)

TRIES = 5  # in a row that make no progress
FIRST_WAIT = 0.5  # seconds; doubles with each try
MAX_ANSWER = 16_000_000  # bytes; each file of a repository takes about 300
LEAST_RATE = 1000  # bytes per second
PATIENCE = 30.0  # seconds that the rate may be lower
LONGEST_WAIT = 120.0  # seconds; a hub that asks for more is a failure


def resolve(repo: str, revision: str | None) -> Record:
    """Return the commit of `revision` (a branch, tag or commit; None: the default branch) and its files.

    Raises ModelMissing (no such repository, revision or files), AuthError or NetworkError.
    """
    url = f"{_endpoint()}/api/models/{repo}"
    url += f"/revision/{quote(revision, safe='')}?blobs=true" if revision else "?blobs=true"
    text = _get_bytes(url, repo, revision)
    try:
        if len(text) > MAX_ANSWER:
            raise ValueError(f"more than {MAX_ANSWER} bytes")
        answer = json.loads(text)
        files = {entry["rfilename"]: entry for entry in answer["siblings"]}
        record = Record(repo, answer["sha"], tuple(_file(files[name]) for name in local.FILES if name in files))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NetworkError(f"{_endpoint()} does not answer as a hub; check HF_ENDPOINT.") from error
    if lacking := [name for name in local.NEEDED if name not in files]:
        raise ModelMissing(f"{repo} is not a Fish Speech 1.5 checkpoint: it lacks {', '.join(lacking)}.")
    return record


def fill(part: Path, record: Record, file: File) -> Iterator[int]:
    """Append to `part` until it has the size of `file`, and yield its size so far. The content is not verified.

    The size falls if the hub sends the whole file instead of the rest. Raises the errors of `resolve`.
    """
    backoff, most = _Backoff(), size(part)
    while size(part) < file.size:
        try:
            yield from _append(part, record, file)
        except _Retryable as failure:
            if size(part) > most and not failure.slow:
                backoff, most = _Backoff(), size(part)
            backoff.wait(failure)


def size(path: Path) -> int:
    """Return the size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


def _get_bytes(url: str, repo: str, revision: str | None) -> bytes:
    """Return the answer of the hub, truncated soon after `MAX_ANSWER`."""
    backoff = _Backoff()
    while True:
        text = bytearray()
        try:
            with _get(url, repo, revision) as response:
                for block in _blocks(response):
                    text += block
                    if len(text) > MAX_ANSWER:
                        break
            return bytes(text)
        except _Retryable as failure:
            backoff.wait(failure)


def _append(part: Path, record: Record, file: File) -> Iterator[int]:
    done = size(part)
    url = f"{_endpoint()}/{record.repo}/resolve/{record.commit}/{file.name}"
    wanted = {"Range": f"bytes={done}-"} if done else {}
    with _get(url, record.repo, record.commit, wanted) as response, part.open("ab") as out:
        if response.status_code != 206:  # the whole file, although the rest was asked for
            out.truncate(0)
            done = 0
        for block in _blocks(response):
            out.write(block)
            done += len(block)
            yield min(done, file.size)
            if done > file.size:
                return  # too long: its checksum cannot match
    if done < file.size:
        raise _Retryable(f"{_endpoint()} sent {done} of {file.size} bytes of {file.name}")


def _blocks(response: "Response") -> Iterator[bytes]:
    """Yield the content as it arrives. Raises _Retryable where it arrives too slowly: a byte resets each timeout."""
    start, arrived = time.monotonic(), 0
    for block in response.iter_bytes():
        yield block
        arrived += len(block)
        if time.monotonic() - start >= PATIENCE:
            if arrived < PATIENCE * LEAST_RATE:
                raise _Retryable(f"{_endpoint()} sent only {arrived} bytes in {PATIENCE:.0f} s", slow=True)
            start, arrived = time.monotonic(), 0


class _Retryable(Exception):
    """A failure that may not repeat; `wait` is the delay in seconds that the hub asks for, if any.

    `slow`: what arrived is too little to count as progress.
    """

    def __init__(self, reason: str, wait: float | None = None, slow: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.slow = wait, slow


class _Backoff:
    """Waits twice as long after each failure in a row, and raises NetworkError after `TRIES` of them."""

    def __init__(self) -> None:
        self.failures = 0

    def wait(self, failure: _Retryable) -> None:
        self.failures += 1
        wait = FIRST_WAIT * 2 ** (self.failures - 1) if failure.wait is None else failure.wait
        if self.failures >= TRIES or wait > LONGEST_WAIT:
            raise NetworkError(
                f"{failure}; check the connection and HF_ENDPOINT. The next download continues from here."
            ) from failure
        logger.warning("%s; trying again in %.1f s.", failure, wait)
        time.sleep(wait)


def _file(entry: dict[str, Any]) -> File:
    """Parse one of the hub's `siblings`: files in LFS have a SHA-256, the others a git blob id."""
    if lfs := entry.get("lfs"):
        return File(entry["rfilename"], lfs["size"], f"sha256:{lfs['sha256']}")
    return File(entry["rfilename"], entry["size"], f"git-sha1:{entry['blobId']}")


def _endpoint() -> str:
    from huggingface_hub import constants

    if not re.fullmatch(r"https?://([\w.-]+|\[[\da-fA-F:]+\])(:\d+)?(/.*)?", constants.ENDPOINT):
        raise SettingError(f"HF_ENDPOINT must be a URL such as https://HOST, not {constants.ENDPOINT!r}.")
    return constants.ENDPOINT


@contextlib.contextmanager
def _get(url: str, repo: str, revision: str | None, headers: dict[str, str] | None = None) -> Iterator["Response"]:
    """Open a stream from the hub. The library's own headers would list the installed packages."""
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    sent = {"User-Agent": f"fishcli/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    if not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := get_token()):
        sent["Authorization"] = f"Bearer {token}"
        _warn_of_plain_http(constants.ENDPOINT)
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with get_session().stream("GET", url, headers=sent, timeout=timeout) as response:
            _require_success(response, repo, revision)
            yield response
    except OfflineModeIsEnabled as error:
        raise NetworkError(
            f"HF_HUB_OFFLINE is set, but {repo} is not downloaded completely; unset it to download."
        ) from error
    except HTTPError as error:
        reason = str(error) or type(error).__name__
        raise _Retryable(f"The connection to {constants.ENDPOINT} failed ({reason})") from error


@functools.cache  # once
def _warn_of_plain_http(endpoint: str) -> None:
    """Warn that anybody on the way can read the token, unless the hub is on this machine."""
    url = urlsplit(endpoint)
    if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        logger.warning("HF_ENDPOINT is %s, so your token is sent unencrypted; use https, or unset HF_TOKEN.", endpoint)


def _require_success(response: "Response", repo: str, revision: str | None) -> None:
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if status < 300:
        return
    if status in (408, 416, 429) or status >= 500:  # 416: the file is shorter than its record, for now
        wait = _retry_after(response)
        delay = "" if wait is None else f" and asks to wait {wait:.0f} s"
        raise _Retryable(f"{_endpoint()} answered {status}{delay}", wait)
    raise _refusal(status, code, repo, revision)


def _refusal(status: int, code: str | None, repo: str, revision: str | None) -> FishError:
    """Return the error for a 4xx. A missing repository is a 401 too: the hub does not reveal private ones."""
    hub_url = _endpoint()
    if code == "RevisionNotFound":
        return ModelMissing(f"{repo} has no revision {revision} on {hub_url}.", field="revision")
    if code == "EntryNotFound":
        return ModelMissing(f"{repo} has lost a file at revision {revision} on {hub_url}.", field="revision")
    if code == "RepoNotFound" or status == 404:
        return ModelMissing(
            f"{hub_url} has no repository {repo} that you can access; check the name, or set HF_TOKEN if it is private."
        )
    if status in (401, 403):
        return AuthError(
            f"{hub_url} denies access to {repo}; accept its licence at {hub_url}/{repo} and set HF_TOKEN to a token "
            f"from {hub_url}/settings/tokens."
        )
    return NetworkError(f"{hub_url} answered {status} for {repo}; try again later, or check HF_ENDPOINT.")


def _retry_after(response: "Response") -> float | None:
    """Return the seconds that the hub asks to wait, given as a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = email.utils.parsedate_tz(value)
        return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
    except (ValueError, OverflowError):  # a year that no calendar has
        return None
