"""A sound card made of software: a JACK server with a dummy driver."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest


@dataclass
class JackServer:
    """A running server. Programs find it by `environment`."""

    name: str
    sample_rate: int
    period: int
    process: subprocess.Popen

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "JACK_DEFAULT_SERVER": self.name, "JACK_NO_START_SERVER": "1"}

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def start_jack() -> Iterator[Callable[..., JackServer]]:
    """Starts servers with a dummy driver and names of their own, and stops them in the end."""
    if shutil.which("jackd") is None:
        pytest.skip("jackd is not installed (Debian: apt install jackd2)")
    try:
        import jack
    except (ImportError, OSError) as error:
        pytest.skip(f"the JACK client library is missing: {error}")
    servers = []

    def start(sample_rate: int, period: int = 128) -> JackServer:
        name = f"hearloop-{uuid.uuid4().hex[:10]}"
        command = ["jackd", "-n", name, "-r", "-d", "dummy", "-r", str(sample_rate), "-p", str(period)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server = JackServer(name, sample_rate, period, process)
        servers.append(server)
        deadline = time.monotonic() + 15
        while True:
            try:
                jack.Client("probe", no_start_server=True, servername=name).close()
                return server
            except jack.JackError:
                if time.monotonic() > deadline or process.poll() is not None:
                    pytest.skip(f"the JACK server does not start here: {' '.join(command)}")
                time.sleep(0.1)

    yield start
    for server in servers:
        server.stop()
