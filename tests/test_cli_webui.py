"""`fish webui` and `fish serve --webui` as processes: the address, Gradio's variables, the key, and the end."""

import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from test_serve import serving

pytest.importorskip("gradio")


def fish(*arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "fishcli", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env={**os.environ, **variables},
    )  # fmt: skip


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


def test_serve_shows_the_page_too_with_the_sampling_of_the_settings():
    variables = {"FISHCLI_SERVE_WEBUI": "true", "FISHCLI_GENERATE_TOP_P": "0.55", "FISHCLI_API_KEY": "the-key"}
    with serving("--checkpoint-path", "built-in", env=variables) as process:
        assert "swagger-ui" in httpx.get(process.url).text
        assert '"value":0.55' in httpx.get(f"{process.url}/webui/config").text
        assert httpx.get(f"{process.url}/webui/page/page.js").status_code == 200
        assert httpx.get(f"{process.url}/webui", follow_redirects=True).status_code == 200
        assert httpx.get(f"{process.url}/model").status_code == 401


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"GRADIO_SERVER_PORT": "http"}, "GRADIO_SERVER_PORT must be a whole number from 0 to 65535, not 'http'."),
        ({"GRADIO_SERVER_PORT": "70000"}, "GRADIO_SERVER_PORT must be a whole number from 0 to 65535, not '70000'."),
        ({"GRADIO_SERVER_PORT": "0", "GRADIO_SHARE": "perhaps"}, "GRADIO_SHARE must be true or false, not 'perhaps'."),
        ({"GRADIO_SERVER_NAME": "no.such.host.invalid"}, "There is no address 'no.such.host.invalid' to listen on;"),
    ],
)
def test_a_wrong_variable_is_one_line(variables, said):
    ran = fish("webui", **variables)
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"error: {said}")
    assert ran.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_where_it_was_given():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for ran in (fish("webui", "--json", GRADIO_SERVER_PORT=port), fish("webui", "--json", "--listen", port)):
            assert ran.returncode == 1
            assert "is in use by another program" in json.loads(ran.stdout)["error"]
