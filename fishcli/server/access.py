"""Who may send a request: from which host name, page and with which key, and in which form."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from urllib.parse import urlsplit

from fishcli.server.bodies import FORMS, JSON, MSGPACK
from fishcli.server.errors import Refused
from fishcli.server.exchange import Exchange
from fishcli.server.settings import ServerSettings

_OPEN = {"/", "/openapi.json", "/v1/health", "/v1/ready"}  # without a key, as everything below /static/
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_NONCE = re.compile(rb"nonce=[A-Za-z0-9_-]{16,128}")
_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,2000}")  # of headers
_PORTS = {"http": 80, "https": 443}
_EXPOSED = "X-Request-Id, Retry-After"
_ALLOWED = "Authorization, Content-Type, Model, X-Request-Id"
_REMEMBERED = 600  # seconds in which a browser does not ask again


class Access:
    """Decides about requests by their heads, as the settings of a server say."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._keys = [each.encode() for each in (settings.key, settings.local_key) if each]
        own = socket.gethostname().lower()
        self._hosts = {"localhost", own, own.partition(".")[0], *map(str.lower, settings.allowed_hosts)}
        self._origins = {_origin(each) or each for each in settings.cors_origins}

    def check(self, exchange: Exchange) -> None:
        """Raise Refused for a request that is not served."""
        self._check_size(exchange)
        self._check_host(exchange)
        self._check_origin(exchange)
        self._check_key(exchange)
        if not exchange.live:
            self._check_body(exchange)

    def allowed_origin(self, exchange: Exchange) -> str | None:
        """Return the origin of a page from elsewhere that may send requests."""
        origins = exchange.header(b"origin")
        if len(origins) != 1 or self._is_ours(exchange, origins[0]):
            return None
        known = "*" in self._origins or (_origin(origins[0]) or origins[0]) in self._origins
        return origins[0] if known else None

    def preflight(self, exchange: Exchange) -> dict[str, str] | None:
        """Return the headers that answer a browser which asks whether it may send a request; None: it is none."""
        asks = exchange.method == "OPTIONS" and exchange.header(b"access-control-request-method")
        if not asks or self.allowed_origin(exchange) is None:
            return None
        wanted = ", ".join(exchange.header(b"access-control-request-headers"))
        return {
            "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
            # SDKs add headers of their own, such as x-stainless-os.
            "Access-Control-Allow-Headers": wanted if _NAMES.fullmatch(wanted) else _ALLOWED,
            "Access-Control-Max-Age": str(_REMEMBERED),
        }

    def cors(self, exchange: Exchange) -> dict[str, str]:
        """Return the headers that let an allowed page read an answer; no page from elsewhere may read any other."""
        origin = self.allowed_origin(exchange)
        if origin is None:
            return {"Cross-Origin-Resource-Policy": "same-origin"}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}

    def proof(self, exchange: Exchange) -> dict[str, str]:
        """Return the header that proves to a program of this user that the server is the one it looks for."""
        key, query = self._settings.local_key, exchange.scope["query_string"]
        if not key or exchange.path != "/v1/health" or not _NONCE.fullmatch(query):
            return {}
        nonce = query.partition(b"=")[2]
        return {"X-Fish-Proof": hmac.new(key.encode(), nonce, "sha256").hexdigest()}

    def _check_size(self, exchange: Exchange) -> None:
        # The server's own limit counts what is not parsed yet, and lets pass what arrives in one piece.
        headers = sum(len(name) + len(value) + 4 for name, value in exchange.scope["headers"])
        if headers + len(exchange.scope.get("raw_path") or b"") > self._settings.max_head:
            raise Refused(431, f"The headers are larger than {self._settings.max_head} bytes.")

    def _check_host(self, exchange: Exchange) -> None:
        hosts = exchange.header(b"host")
        match = _AUTHORITY.fullmatch(hosts[0].strip()) if len(hosts) == 1 else None
        if match is None:
            raise Refused(400, "A request needs one valid Host header.")
        name = match[1].lower().removesuffix(".")
        if name not in self._hosts and "*" not in self._hosts and not _is_ip(name):
            raise Refused(421, f"This server is not {name[:100]}; its operator can allow that name.")

    def _check_origin(self, exchange: Exchange) -> None:
        origins = exchange.header(b"origin")
        ours = len(origins) == 1 and self._is_ours(exchange, origins[0])
        if origins and not ours and self.allowed_origin(exchange) is None:
            raise Refused(403, "Web pages from elsewhere may not use this server; its operator can allow them.")

    def _is_ours(self, exchange: Exchange, origin: str) -> bool:
        scheme = "https" if exchange.scope.get("scheme") in ("https", "wss") else "http"
        hosts = exchange.header(b"host")
        return bool(hosts) and _origin(origin) == _origin(f"{scheme}://{hosts[0].strip()}") is not None

    def _check_key(self, exchange: Exchange) -> None:
        if not self._settings.key or exchange.path in _OPEN or exchange.path.startswith("/static/"):
            return
        if exchange.method in ("GET", "HEAD") and exchange.path.startswith(self._settings.open_paths):
            return
        given = exchange.header(b"authorization")
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        right = [hmac.compare_digest(key.strip().encode("latin-1"), each) for each in self._keys]
        if scheme.lower() != "bearer" or not any(right):
            reason = "The API key is wrong." if given else "An API key is needed: Authorization: Bearer KEY."
            raise Refused(401, reason, headers={"WWW-Authenticate": "Bearer"})

    def _check_body(self, exchange: Exchange) -> None:
        lengths = exchange.header(b"content-length")
        if lengths and exchange.header(b"transfer-encoding"):  # a proxy may see another end of it than we do
            said = "A request has a Content-Length or a Transfer-Encoding, not both."
            raise Refused(400, said, headers={"Connection": "close"})
        length = int(lengths[0]) if lengths and lengths[0].isascii() and lengths[0].isdigit() else 0
        if length > self._settings.max_body:
            raise too_large(self._settings.max_body)
        if exchange.method not in ("POST", "PUT", "PATCH") or not (length or exchange.header(b"transfer-encoding")):
            return
        kinds = exchange.header(b"content-type")
        kind = kinds[0].partition(";")[0].strip().lower() if len(kinds) == 1 else ""
        forms = FORMS if _takes_forms(exchange.path) else ()
        if kind not in (JSON, *MSGPACK, *forms):
            takes = FORMS[0] if forms else "application/json or application/msgpack"
            raise Refused(415, f"The Content-Type of the body must be {takes}.")


def too_large(limit: int) -> Refused:
    """Return the error for a body of more bytes than the limit."""
    return Refused(413, f"The body is larger than {limit} bytes.")


def _takes_forms(path: str) -> bool:
    return path == "/model" or path.startswith("/model/")


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") else name)
    except ValueError:
        return False
    return True


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin; None unless it is one."""
    try:
        parts = urlsplit(url.strip().lower())
        port = parts.port if parts.port is not None else _PORTS.get(parts.scheme)
    except ValueError:
        return None
    clean = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username is not None)
    return (parts.scheme, parts.hostname, port) if clean and parts.hostname and port is not None else None
