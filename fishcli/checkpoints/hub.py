"""Talk to the hub: what a repository holds, and a file's bytes, however often the connection breaks.

huggingface_hub gives the endpoint, the token and the session, so that its environment variables hold here.
The transfer is ours because its `hf_hub_download` compares sizes alone: it puts a file of the right size and
wrong bytes in place, one that was resumed onto a wrong beginning too.
"""

import contextlib
import email.utils
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fishcli import __version__
from fishcli.checkpoints import local
from fishcli.checkpoints.local import File, Record
from fishcli.errors import AuthError, FishError, ModelMissing, NetworkError, SettingError

if TYPE_CHECKING:
    from httpx2 import Response

logger = logging.getLogger(__name__)

TRIES = 5  # in a row without a new byte
FIRST_WAIT = 0.5  # seconds; doubles with each try
MAX_ANSWER = 16_000_000  # bytes; each file that a repository holds takes some 300
LONGEST_WAIT = 120.0  # seconds; a hub that asks for more is given up


def resolve(repo: str, revision: str | None) -> Record:
    """The commit that `revision` (a branch, tag or commit; None: the default branch) names, and its files.

    Raises ModelMissing (no such repository, revision or files), AuthError, NetworkError.
    """
    url = f"{_endpoint()}/api/models/{repo}"
    url += f"/revision/{quote(revision, safe='')}?blobs=true" if revision else "?blobs=true"
    text = _ask(url, repo, revision)
    try:
        if len(text) > MAX_ANSWER:
            raise ValueError(f"more than {MAX_ANSWER} bytes")
        answer = json.loads(text)
        files = {entry["rfilename"]: entry for entry in answer["siblings"]}
        record = Record(repo, answer["sha"], tuple(_file(files[name]) for name in local.FILES if name in files))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NetworkError(f"{_endpoint()} does not answer as a hub does: check HF_ENDPOINT.") from error
    if lacking := [name for name in local.NEEDED if name not in files]:
        raise ModelMissing(f"{repo} is no Fish Speech 1.5 checkpoint, it lacks {', '.join(lacking)}: choose another.")
    return record


def fill(part: Path, record: Record, file: File) -> Iterator[int]:
    """Append to `part` until it has the file's size, and yield the bytes that it has; they are not checked.

    The count falls where the hub sends the whole file instead of the rest. Raises as `resolve` does.
    """
    patience, most = _Patience(), size(part)
    while size(part) < file.size:
        try:
            yield from _append(part, record, file)
        except _Hiccup as hiccup:
            if size(part) > most:
                patience, most = _Patience(), size(part)
            patience.bear(hiccup)


def size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def _ask(url: str, repo: str, revision: str | None) -> bytes:
    """What the hub answers, of which no more is read than shows that it is too long."""
    patience = _Patience()
    while True:
        text = bytearray()
        try:
            with _get(url, repo, revision) as response:
                for block in response.iter_bytes():
                    text += block
                    if len(text) > MAX_ANSWER:
                        break
            return bytes(text)
        except _Hiccup as hiccup:
            patience.bear(hiccup)


def _append(part: Path, record: Record, file: File) -> Iterator[int]:
    done = size(part)
    url = f"{_endpoint()}/{record.repo}/resolve/{record.commit}/{file.name}"
    wanted = {"Range": f"bytes={done}-"} if done else {}
    with _get(url, record.repo, record.commit, wanted) as response, part.open("ab") as out:
        if response.status_code != 206:  # the whole file, asked for or not
            out.truncate(0)
            done = 0
        for block in response.iter_bytes():
            out.write(block)
            done += len(block)
            yield min(done, file.size)
            if done > file.size:
                return  # too long to be right: the digest will say so
    if done < file.size:
        raise _Hiccup(f"{_endpoint()} sent {done} of {file.size} bytes of {file.name}")


class _Hiccup(Exception):
    """A failure of the hub or of the way to it that another try may mend; `wait` seconds if it said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Patience:
    """Waits longer after each failure in a row, and gives up after `TRIES` of them."""

    def __init__(self) -> None:
        self.failures = 0

    def bear(self, hiccup: _Hiccup) -> None:
        self.failures += 1
        wait = FIRST_WAIT * 2 ** (self.failures - 1) if hiccup.wait is None else hiccup.wait
        if self.failures >= TRIES or wait > LONGEST_WAIT:
            raise NetworkError(
                f"{hiccup}: check the connection or HF_ENDPOINT, and run `fish download` again to go on."
            ) from hiccup
        logger.warning("%s; trying again in %.1f s.", hiccup, wait)
        time.sleep(wait)


def _file(entry: dict[str, Any]) -> File:
    """One of the hub's `siblings`: files in LFS have a SHA-256, the others git's blob id."""
    if lfs := entry.get("lfs"):
        return File(entry["rfilename"], lfs["size"], f"sha256:{lfs['sha256']}")
    return File(entry["rfilename"], entry["size"], f"git-sha1:{entry['blobId']}")


def _endpoint() -> str:
    from huggingface_hub import constants

    if not re.fullmatch(r"https?://([\w.-]+|\[[\da-fA-F:]+\])(:\d+)?(/.*)?", constants.ENDPOINT):
        raise SettingError(f"HF_ENDPOINT is no address: write {constants.ENDPOINT!r} as https://HOST.")
    return constants.ENDPOINT


@contextlib.contextmanager
def _get(url: str, repo: str, revision: str | None, headers: dict[str, str] | None = None) -> Iterator["Response"]:
    """Open a stream from the hub. The headers are ours, since the library's own name the caller's tools."""
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    sent = {"User-Agent": f"fishcli/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    if not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := get_token()):
        sent["Authorization"] = f"Bearer {token}"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    try:
        with get_session().stream("GET", url, headers=sent, timeout=timeout) as response:
            _require_success(response, repo, revision)
            yield response
    except OfflineModeIsEnabled as error:
        raise NetworkError(
            f"HF_HUB_OFFLINE is set and {repo} is not all here: unset it to run `fish download`."
        ) from error
    except HTTPError as error:
        reason = str(error) or type(error).__name__
        raise _Hiccup(f"The connection to {constants.ENDPOINT} failed ({reason})") from error


def _require_success(response: "Response", repo: str, revision: str | None) -> None:
    status, code = response.status_code, response.headers.get("X-Error-Code")
    if status < 300:
        return
    if status in (408, 416, 429) or status >= 500:  # 416: its file is shorter than it says, for now
        wait = _retry_after(response)
        asked = "" if wait is None else f" and asks to wait {wait:.0f} s"
        raise _Hiccup(f"{_endpoint()} answered {status}{asked}", wait)
    raise _refusal(status, code, repo, revision)


def _refusal(status: int, code: str | None, repo: str, revision: str | None) -> FishError:
    """What a 4xx means. The hub answers 401 for a missing repository too, so that private ones stay hidden."""
    hub_url = _endpoint()
    if code == "RevisionNotFound":
        return ModelMissing(f"{repo} has no revision {revision} on {hub_url}: choose another with --revision.")
    if code == "EntryNotFound":
        return ModelMissing(f"{repo} lost a file at {revision} on {hub_url}: choose another with --revision.")
    if code == "RepoNotFound" or status == 404:
        return ModelMissing(
            f"{hub_url} has no {repo} that you may see: check the name, or set HF_TOKEN if it is private."
        )
    if status in (401, 403):
        return AuthError(
            f"{hub_url} refuses {repo}: accept its licence at {hub_url}/{repo} and set HF_TOKEN to a token "
            f"from {hub_url}/settings/tokens."
        )
    return NetworkError(f"{hub_url} answered {status} for {repo}: try again later, or check HF_ENDPOINT.")


def _retry_after(response: "Response") -> float | None:
    """Seconds that the hub asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    date = email.utils.parsedate_tz(value)
    return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else None
