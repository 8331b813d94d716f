"""`fish webui` and `fish serve --webui` as processes: the address, Gradio's variables, the key, and the end."""

import json
import os
import signal
import socket
import sys

import httpx
import pytest
from browsing import import_or_skip
from test_serve import serving

import_or_skip("gradio")


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def test_gradios_port_is_used_no_link_is_no_failure_and_a_signal_ends_it(tmp_path):
    port = free_port()
    # What would leave this machine goes to a port where nobody listens.
    proxy = {name: f"http://127.0.0.1:{free_port()}" for name in ("http_proxy", "https_proxy", "all_proxy")}
    variables = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SHARE": "true", **proxy, "no_proxy": "127.0.0.1"}
    options = ("--checkpoint-path", "built-in", "--max-gradio-length", "100", "--theme", "light")
    with serving(*options, command="webui", port=None, env=variables) as process:
        assert process.url == f"http://127.0.0.1:{port}"
        process.wait_for(f"Listening on {process.url} (documentation at /, web page at /webui)")
        assert "There is no public link" in process.err
        assert "--theme has no effect" in process.err
        page = httpx.get(process.url, follow_redirects=True)
        assert page.url.path == "/webui/"
        assert "gradio_config" in page.text
        assert httpx.post(f"{process.url}/v1/tts", json={"text": "a" * 101}).status_code == 413
        process.send(signal.SIGTERM)
        assert process.end() == 0


# Notes each address that a process connects to, and each name that it looks up.
SPY = """
import os, sys

def look(event, given):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        with open(os.environ["SPY"], "a") as file:
            print(given[1] if event != "socket.getaddrinfo" else given[0], file=file)

sys.addaudithook(look)
"""
# What Gradio reads when a page is made or served, set so that it would do the most, and what is none of it here.
IGNORED = {
    "GRADIO_ANALYTICS_ENABLED": "True",
    "GRADIO_ALLOWED_PATHS": "/",
    "GRADIO_TEMP_DIR": "/",
    "GRADIO_EXAMPLES_CACHE": "/",
    "GRADIO_RUN_HISTORY": "True",
    "GRADIO_HISTORY_BUCKET": "somebody/bucket",
    "GRADIO_MCP_SERVER": "True",
    "GRADIO_SSR_MODE": "True",
    "GRADIO_NODE_PATH": sys.executable,
    "GRADIO_NODE_SERVER_PORT": "7861",
    "GRADIO_NUM_WORKERS": "4",
    "GRADIO_LOCAL_DEV_MODE": "1",
    "GRADIO_WATCH_DIRS": "/",
    "GRADIO_HOT_RELOAD": "true",
    "GRADIO_VIBE_MODE": "1",
    "GRADIO_DEBUG": "1",
    "GRADIO_PROFILING": "1",
    "GRADIO_AUTO_LOGOUT": "true",
    "GRADIO_FLAGGING_MODE": "auto",
    "GRADIO_CACHE_MODE": "eager",
    "GRADIO_DEFAULT_CONCURRENCY_LIMIT": "1",
    "GRADIO_HEARTBEAT_INTERVAL": "0.1",
}
CLOSED = [
    "gradio_api/file=/etc/hostname", "file=/etc/hostname", "gradio_api/runs", "gradio_api/mcp/sse", "gradio_api/mcp/",
    "monitoring", "gradio_api/vibe-code/", "gradio_api/dev/reload", "gradio_api/upload", "gradio_api/heartbeat/a",
    "gradio_api/profiling/traces", "logout",
]  # fmt: skip


def test_serve_shows_the_page_too_with_the_settings_and_no_variable_of_gradio_opens_more(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SPY)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    variables = {"FISHCLI_SERVE_WEBUI": "true", "FISHCLI_GENERATE_TOP_P": "0.55", "FISHCLI_API_KEY": "the-key"}
    variables |= {"FISHCLI_GENERATE_VOICE": "ann", "FISHCLI_LANGUAGE": "pt", "FISHCLI_GENERATE_SEED": "1234567"}
    variables |= {**IGNORED, "GRADIO_ROOT_PATH": "/speech/", "PYTHONPATH": path, "SPY": str(tmp_path / "seen")}
    with serving("--checkpoint-path", "built-in", env=variables) as process:
        assert "swagger-ui" in httpx.get(process.url).text
        config = httpx.get(f"{process.url}/webui/config")
        shown = [each["props"].get("value") for each in config.json()["components"]]
        assert {0.55, "pt", "1234567"} <= {each for each in shown if not isinstance(each, list)}
        assert 'voice=\\"ann\\"' in config.text
        assert config.json()["analytics_enabled"] is False
        assert httpx.get(f"{process.url}/webui/page/page.js").status_code == 200
        moved = httpx.get(f"{process.url}/webui")
        assert (moved.status_code, moved.headers["location"]) == (307, "webui/")
        assert '"root":"/speech/webui"' in httpx.get(f"{process.url}/webui/").text
        key = {"Authorization": "Bearer the-key"}
        assert [httpx.get(f"{process.url}/webui/{each}", headers=key).status_code for each in CLOSED] == [404] * 12
        assert httpx.get(f"{process.url}/model").status_code == 401
    seen = (tmp_path / "seen").read_text().splitlines() if (tmp_path / "seen").exists() else []
    assert [each for each in seen if "127.0.0.1" not in each and each not in ("None", "localhost")] == []


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GRADIO_SERVER_PORT": "http"}, "GRADIO_SERVER_PORT must be a whole number from 0 to 65535, not 'http'."),
        ({"GRADIO_SERVER_PORT": "70000"}, "GRADIO_SERVER_PORT must be a whole number from 0 to 65535, not '70000'."),
        ({"GRADIO_SERVER_PORT": "0", "GRADIO_SHARE": "perhaps"}, "GRADIO_SHARE must be true or false, not 'perhaps'."),
        (
            {"GRADIO_ROOT_PATH": "speech"},
            "GRADIO_ROOT_PATH must be a path, such as /speech, or an address, not 'speech'.",
        ),
        ({"GRADIO_SERVER_NAME": "no.such.host.invalid"}, "There is no address 'no.such.host.invalid' to listen on;"),
    ],
)
def test_a_wrong_variable_is_one_line(fish, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ran = fish("webui")
    assert ran.code == 2
    assert ran.err.startswith(f"error: {said}")
    assert ran.err.count("\n") == 1


def test_a_port_in_use_is_one_line_where_it_was_given(fish, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        listening = fish("webui", "--json", "--listen", port)
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
        for ran in (listening, fish("webui", "--json")):
            assert ran.code == 1
            assert "is in use by another program" in json.loads(ran.out)["error"]
