"""The tiny model behind vLLM's real server."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

STARTED = 240.0  # seconds; some forty are usual
STOPPED = 30.0


@contextmanager
def served(model: Path | str, folder: Path, context: int = 2048) -> Iterator[str]:
    """A server with the model, called "tiny", on a free port; gives its address up to and with /v1.

    Its log goes to the folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `vllm serve` starts. The command itself asks for a distribution called "vllm", which the CPU build is not.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += [
        "--max-model-len",
        f"{context}",
        "--max-num-batched-tokens",
        f"{context}",
        "--no-enable-chunked-prefill",
        "--enforce-eager",
    ]
    command += ["--dtype", "float32", "--enable-prompt-tokens-details"]
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **quiet},
            cwd=folder,
            start_new_session=True,
        ) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, folder / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOPPED)
            with suppress(ProcessLookupError):  # its engine process too, should one be left
                os.killpg(server.pid, signal.SIGKILL)


def wait_for(health: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the server answers; fail with the end of its log when it does not."""
    end = time.monotonic() + STARTED
    while time.monotonic() < end and server.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(health, trust_env=False).is_success:
                return
        time.sleep(0.2)
    pytest.fail(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-3000:]}")
