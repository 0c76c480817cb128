"""Links pass what comes, and do to it what the weather says."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from headgate_graphs.errors import UserError
from headgate_resilience.chaos.proxy.network import Network, address_of
from tests.support import eventually


class Echo(threading.Thread):
    """A server that answers each piece with a reply made of it."""

    def __init__(self, *, http: bool) -> None:
        super().__init__(daemon=True)
        self._http = http
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.received: list[bytes] = []
        self._open: list[socket.socket] = []
        self.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        while True:
            try:
                piece = connection.recv(65_536)
            except OSError:
                return
            if not piece:
                return
            self.received.append(piece)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nabcdefgh" if self._http else _reply(piece))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._open:
            one.close()
        self.join(5)


def _reply(request: bytes) -> bytes:
    number = request[8:12]
    return struct.pack(">i", 8) + number + b"done"


def asked(kind: int, number: int) -> bytes:
    return struct.pack(">ihhi", 8, kind, 0, number)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(1)
    yield made
    made.close()


@pytest.fixture(params=[False, True], ids=["kafka", "http"])
def server(request: pytest.FixtureRequest) -> Iterator[Echo]:
    made = Echo(http=request.param)
    yield made
    made.close()


@pytest.fixture
def kafka() -> Iterator[Echo]:
    made = Echo(http=False)
    yield made
    made.close()


@pytest.fixture
def store() -> Iterator[Echo]:
    made = Echo(http=True)
    yield made
    made.close()


def connected(address: str) -> socket.socket:
    host, port = address_of(address)
    connection = socket.create_connection((host, port), timeout=5)
    connection.settimeout(5)
    return connection


def test_replies_come_back_and_are_eaten_when_the_weather_says_so(network: Network, kafka: Echo) -> None:
    link = network.kafka("gate-1", kafka.address)
    with connected(link) as client:
        client.sendall(asked(0, 5))
        assert client.recv(100) == struct.pack(">ii", 8, 5) + b"done"
        network.weather["gate-1"].eaten = frozenset({"produce"})
        client.sendall(asked(18, 6))
        assert client.recv(100) == struct.pack(">ii", 8, 6) + b"done", "another request is not eaten"
        client.sendall(asked(0, 7))
        assert was_cut(client)
    assert asked(0, 7) in kafka.received, "the server has done it"
    assert network.weather["gate-1"].meals == 1


def was_cut(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionError:
        return True


def test_what_is_cut_off_is_held_back_and_comes_when_it_heals(network: Network, kafka: Echo) -> None:
    weather_name = "worker"
    with connected(network.kafka(weather_name, kafka.address)) as client:
        weather = network.weather[weather_name]
        weather.is_cut_up = True
        client.sendall(asked(3, 1))
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert kafka.received == []
        weather.clear()
        client.settimeout(5)
        # A Metadata reply of four bytes names no broker: the link must not fall over it.
        eventually(lambda: kafka.received)


def test_a_refused_link_cuts_who_is_connected_and_who_comes(network: Network, server: Echo) -> None:
    link = network.kafka("one", server.address)
    with connected(link) as client:
        network.weather["one"].is_refused = True
        assert was_cut(client)
    with connected(link) as late:
        assert was_cut(late)


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ("", b"HTTP/1.1 200 OK\r\n\r\nabcdefgh"),
        ("corrupt", b"HTTP/1.1 200 OK\r\n\r\n`bcdefgh"),
        ("truncated", b"HTTP/1.1 200 OK\r\n\r\nabcd"),
    ],
)
def test_what_is_read_is_spoiled_as_the_weather_says(
    network: Network, store: Echo, answers: str, wanted: bytes
) -> None:
    link = network.blobs("blobs", store.address)
    network.weather["blobs"].answers = answers
    with connected(link) as client:
        client.sendall(b"GET /x HTTP/1.1\r\n\r\n")
        assert client.recv(200) == wanted
        if answers == "truncated":
            assert was_cut(client)


def test_a_store_that_errs_has_not_been_asked(network: Network, store: Echo) -> None:
    link = network.blobs("blobs", store.address)
    network.weather["blobs"].answers = "error"
    with connected(link) as client:
        client.sendall(b"PUT /x HTTP/1.1\r\n\r\n")
        assert client.recv(200).startswith(b"HTTP/1.1 503 ")
    assert store.received == []


def test_the_reply_to_a_put_is_eaten(network: Network, store: Echo) -> None:
    link = network.blobs("blobs", store.address)
    network.weather["blobs"].eaten = frozenset({"put"})
    with connected(link) as client:
        client.sendall(b"PUT /x HTTP/1.1\r\n\r\n")
        assert was_cut(client)
    assert store.received == [b"PUT /x HTTP/1.1\r\n\r\n"]


@pytest.mark.parametrize("text", ["", "host", "host:", ":9092", "host:port"])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="host:port"):
        address_of(text)
