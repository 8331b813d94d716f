"""The HTTP client: ask a server to speak, and read the answer while it comes.

Nothing that a server sends is trusted: its messages are escaped, its answers are bounded, compressed ones are refused,
and redirects are not followed, since the key and the recordings are meant for one host.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

import fishcli
from fishcli.client.refusals import printable, refusal
from fishcli.client.request import SpeechRequest
from fishcli.errors import FishError, NetworkError, SettingError

log = logging.getLogger(__name__)

PROOF = "X-Fish-Proof"  # the header in which a server proves that it knows its key
_PROVING = 5.0  # seconds until a server on this machine has proven itself; a stopped one never does
_CONNECT = 10.0  # seconds until a connection stands
_PATIENCE = 1800.0  # seconds until an answer that is sent whole starts
_SILENCE = 120.0  # seconds without a byte of a streamed answer, which a slow machine may need before the first
_LONGEST_WAIT = 30  # seconds that a busy server may have us wait
_SMALL = 2**20  # bytes of an answer that is no audio
_LEAST, _PER_CHARACTER = 100 * 2**20, 2**20  # bytes of audio: ten minutes, and six seconds a character
_HOST = re.compile(r"[\w.:-]+")  # a name or an IP address
_AUDIO = ("audio/", "application/octet-stream", "application/ogg")


class FishClient:
    """A connection to one server with Fish Speech's API. `key` is sent as a Bearer token, to this server alone.

    `url` may end in `/v1/tts`, as in the documentation. A server that is busy is asked again up to `retries` times.
    Errors are AuthError (401, 403), InputError (another 4xx, with the server's sentence) and NetworkError.
    """

    def __init__(self, url: str, key: str | None = None, *, model: str | None = None, retries: int = 3) -> None:
        address = _address(url)
        self.url = str(address).rstrip("/")
        self.is_readable_by_others = address.scheme == "http" and not is_loopback(address.host)
        self._retries = retries
        self._headers = {"Authorization": f"Bearer {_checked(key)}"} if key else {}
        if model:
            self._headers["model"] = model
        self._proven = False
        with _environment_errors():
            self._http = httpx.Client(
                headers={"Accept-Encoding": "identity", "User-Agent": f"fishcli/{fishcli.__version__}"},
                timeout=httpx.Timeout(_SILENCE, connect=_CONNECT),
                limits=httpx.Limits(max_connections=1),
                verify=address.scheme == "https",
                trust_env=not is_loopback(address.host),  # a proxy cannot reach this machine's loopback
            )

    def speak(self, request: SpeechRequest) -> Answer:
        """Return the answer to a request once its head has come; its bytes follow while the server makes them."""
        body, kind = request.encode()
        streamed = request.streaming or request.stream_format == "sse" or request.format != "wav"
        head = {**self._headers, "Content-Type": kind}
        patience = {"read": _SILENCE if streamed else _PATIENCE}
        expected = ("text/event-stream",) if request.stream_format == "sse" else _AUDIO
        limit = _LEAST + _PER_CHARACTER * len(request.text)
        return self._ask("POST", "/v1/tts", limit, headers=head, content=body, expected=expected, timeouts=patience)

    def voices(self) -> list[dict[str, Any]]:
        """Return the voices that the server knows, each with its `_id` and `title`."""
        found = self._json("/model")
        items = found.get("items")
        return [each for each in items if isinstance(each, dict)] if isinstance(items, list) else []

    def health(self) -> Mapping[str, str]:
        """Return the headers of the health route, which needs no key. Raises NetworkError unless the server answers."""
        with self._ask("GET", "/v1/health", _SMALL) as answer:
            answer.read()
            return answer.headers

    def prove(self, secret: str) -> Mapping[str, str]:
        """Have the server prove that it knows a secret, and from then on use this connection alone.

        Return the headers of the health route. Raises NetworkError where it does not, and from `speak` where the
        connection has ended: another program may listen on the port by then.
        """
        nonce = secrets.token_hex(16)
        with self._ask("GET", f"/v1/health?nonce={nonce}", _SMALL, timeouts={"read": _PROVING}) as answer:
            answer.read()
        expected = hmac.new(secret.encode(), nonce.encode(), "sha256").hexdigest()
        if not hmac.compare_digest(answer.headers.get(PROOF, "").encode(), expected.encode()):
            raise NetworkError(f"{self.url} is not the server that it should be.")
        self._proven = True
        return answer.headers

    def close(self) -> None:
        """End the connection; the server ends what it still does for it."""
        self._http.close()

    def __enter__(self) -> FishClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, path: str) -> dict[str, Any]:
        with self._ask("GET", path, _SMALL, headers=self._headers) as answer:
            body = answer.read()
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise NetworkError(f"{self.url}{path} answered with something else than a JSON object.")
        return found

    def _ask(
        self,
        method: str,
        path: str,
        limit: int,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        expected: tuple[str, ...] = (),
        timeouts: Mapping[str, float] | None = None,
    ) -> Answer:
        request = self._http.build_request(method, f"{self.url}{path}", headers=headers, content=content)
        request.extensions["timeout"] |= timeouts or {}
        if self._proven:
            request.extensions["trace"] = _refuse_new_connections
        response = self._send(request)
        try:
            _check(self.url, response, expected)
        except BaseException:
            response.close()
            raise
        return Answer(self.url, response, limit)

    def _send(self, request: httpx.Request) -> httpx.Response:
        """Return an answer, of which the body is still to come. A busy server is asked again."""
        for attempt in range(self._retries + 1):
            with _network_errors(self.url):
                response = self._http.send(request, stream=True)
            wait = _wait(response, attempt)
            if response.status_code not in (429, 503) or attempt == self._retries or wait > _LONGEST_WAIT:
                break
            response.close()
            log.debug("%s is busy; asking again in %d s", self.url, wait)
            time.sleep(wait)
        return response


class Answer(Iterator[bytes]):
    """The body of an answer as it comes. Closing it before its end has the server stop. Raises NetworkError."""

    def __init__(self, url: str, response: httpx.Response, limit: int) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._url, self._response, self._limit = url, response, limit
        self._blocks = response.iter_raw()
        self._size = 0

    def __next__(self) -> bytes:
        with _network_errors(self._url):
            block = next(self._blocks, None)
        if block is None:
            raise StopIteration
        self._size += len(block)
        if self._size > self._limit:
            raise NetworkError(f"{self._url} sends more than any answer to this request needs.")
        return block

    def read(self) -> bytes:
        """Return the rest of the body."""
        return b"".join(self)

    def close(self) -> None:
        """Read no further, and end the connection if the body has not ended."""
        self._response.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine, by an address that no other machine has."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _address(url: str) -> httpx.URL:
    """Return the address of a server, without the path of a route. Raises SettingError."""
    try:
        address = httpx.URL(url.strip().removesuffix("/").removesuffix("/v1/tts"))
    except httpx.InvalidURL as error:
        raise SettingError(f"{printable(url, 60)} is not the address of a server.", field="url") from error
    if address.scheme not in ("http", "https") or not _HOST.fullmatch(address.host):
        shown = printable(url, 60)
        raise SettingError(f"A server's address starts with http:// or https://, not {shown}.", field="url")
    if address.userinfo or address.query or address.fragment:
        raise SettingError("A server's address has no user name, query or fragment.", field="url")
    return address


def _checked(key: str) -> str:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingError("The API key has characters that no key has.", field="api_key")
    return key


def _check(url: str, response: httpx.Response, expected: tuple[str, ...]) -> None:
    """Raise the error of an answer that refuses the request, or is of another kind than the one that was asked for."""
    if response.status_code >= 300:
        raise refusal(url, response.status_code, _start(url, response))
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise NetworkError(f"{url} sends a compressed answer, which was not asked for.")
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if expected and kind and not kind.startswith(expected):
        wanted = "a stream of events, as `fish serve` does" if expected[0].startswith("text/") else "audio"
        raise NetworkError(f"{url} answered with {printable(kind, 60)}, not with {wanted}.")


def _start(url: str, response: httpx.Response) -> bytes:
    """Return the start of an error's body. One that is cut off or compressed still has a status."""
    start = b""
    with contextlib.suppress(NetworkError), _network_errors(url):
        for block in response.iter_raw():
            start += block
            if len(start) > _SMALL:
                break
    return b"" if response.headers.get("Content-Encoding", "identity") != "identity" else start[:_SMALL]


def _wait(response: httpx.Response, attempt: int) -> int:
    """Return the seconds after which a busy server wants to be asked again."""
    given = response.headers.get("Retry-After", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 2**attempt


def _refuse_new_connections(event: str, _info: Mapping[str, Any]) -> None:
    """Raise NetworkError instead of opening another connection: another program may listen on the port."""
    if event.startswith("connection.connect") and event.endswith(".started"):
        raise NetworkError("The local server has closed the connection.")


@contextlib.contextmanager
def _environment_errors() -> Iterator[None]:
    """Turn the errors of proxies and certificates that the environment names into SettingError."""
    try:
        yield
    except ImportError as error:  # httpx's name for a package that it has not
        raise SettingError("A SOCKS proxy needs a further package; run `pip install 'httpx[socks]'`.") from error
    except (ValueError, httpx.InvalidURL) as error:
        said = printable(str(error), 120)
        raise SettingError(f"The proxy that the environment names (HTTP_PROXY, ALL_PROXY) is wrong: {said}.") from error
    except OSError as error:
        said = "The certificates that the environment names (SSL_CERT_FILE, SSL_CERT_DIR) cannot be read"
        raise SettingError(f"{said} ({printable(error.strerror or str(error), 120)}).") from error


@contextlib.contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Turn the errors of a connection into NetworkError."""
    try:
        yield
    except FishError:
        raise
    except httpx.ConnectTimeout as error:
        raise NetworkError(f"{url} does not answer.") from error
    except httpx.ConnectError as error:
        reason = printable(str(error)) or "no connection"
        raise NetworkError(f"{url} cannot be reached ({reason}); is the server running?") from error
    except httpx.TimeoutException as error:
        raise NetworkError(f"{url} has sent nothing for too long.") from error
    except httpx.RemoteProtocolError as error:
        raise NetworkError(f"The answer of {url} is cut off or is not HTTP ({printable(str(error))}).") from error
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise NetworkError(
            f"The connection to {url} failed ({printable(str(error)) or type(error).__name__})."
        ) from error
