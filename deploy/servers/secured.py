"""A Kafka broker that asks who one is and what one may: SCRAM, TLS and ACLs, for the tests of security.

It listens three times: SASL_PLAINTEXT and SASL_SSL with SCRAM-SHA-512, and SSL with a certificate of the
client's own. Its authority is made with it; `ca.crt`, and `admin.crt` with `admin.key`, are in its folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.servers import kafka
from deploy.servers.certificates import Authority, Signed
from deploy.servers.processes import Running, free_port, recorded, stop

ADMIN = "admin"
ADMIN_PASSWORD = "admin-secret"  # noqa: S105 - of throw-away servers on 127.0.0.1
_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"
_SCRAM = "SCRAM-SHA-512"


@dataclass(frozen=True)
class Secured:
    """Where the broker listens: host:port of each listener."""

    sasl: str
    sasl_tls: str
    mutual_tls: str
    home: str

    @property
    def ca_file(self) -> Path:
        """What its clients must trust."""
        return Path(self.home, "ca.crt")

    @property
    def running(self) -> Running | None:
        """Its process, if it runs."""
        return recorded(Path(self.home))

    def admin_options(self) -> dict[str, str]:
        """Return the client options of who may do everything."""
        return {
            "bootstrap.servers": self.sasl,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": _SCRAM,
            "sasl.username": ADMIN,
            "sasl.password": ADMIN_PASSWORD,
        }


def run(home: Path) -> Secured:
    """Start the broker of `home`, or return the one that runs there; returns once it answers."""
    home = home.resolve()
    said = home / "secured.json"
    if recorded(home) is None:
        home.mkdir(parents=True, exist_ok=True)
        ports = [free_port() for _ in range(3)]
        _sign(home)
        options = _options(home, *ports)
        kafka.run(home, ports[0], options=options, users={ADMIN: ADMIN_PASSWORD})
        sasl, sasl_tls, mutual_tls = (f"127.0.0.1:{port}" for port in ports)
        said.write_text(json.dumps(asdict(Secured(sasl, sasl_tls, mutual_tls, str(home)))))
    return Secured(**json.loads(said.read_text()))


def start_again(server: Secured, signed: Signed) -> None:
    """Stop the broker and start it with the same data and ports and another certificate."""
    if (running := server.running) is not None:
        stop(running, grace_s=5)
    _keep(Path(server.home), signed)
    kafka.start_node(Path(server.home), int(server.sasl.rpartition(":")[2]))


def _sign(home: Path) -> None:
    """Make the authority, the broker's certificate and the administrator's."""
    authority = Authority()
    authority.write(home)
    authority.sign(ADMIN).write(home, "admin")
    _keep(home, authority.sign("broker"))


def _keep(home: Path, broker: Signed) -> None:
    keystore = home / "broker.pem"
    keystore.touch(mode=0o600)
    keystore.write_bytes(broker.key + broker.certificate)


def _options(home: Path, sasl: int, sasl_tls: int, mutual_tls: int) -> dict[str, str]:
    ports = {"SASL_PLAINTEXT": sasl, "SASL_SSL": sasl_tls, "SSL": mutual_tls}
    addresses = [f"{name}://127.0.0.1:{port}" for name, port in ports.items()]
    controller = free_port()
    login = f'{_LOGIN} username="{ADMIN}" password="{ADMIN_PASSWORD}";'
    return {
        "listeners": ",".join([*addresses, f"CONTROLLER://127.0.0.1:{controller}"]),
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "advertised.listeners": ",".join(addresses),
        "listener.security.protocol.map": ",".join([*(f"{n}:{n}" for n in ports), "CONTROLLER:PLAINTEXT"]),
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": _SCRAM,
        "sasl.mechanism.inter.broker.protocol": _SCRAM,
        "listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config": login,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": login,
        "listener.name.ssl.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(home / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(home / "ca.crt"),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The controller's listener is plain and on this machine alone.
        "super.users": f"User:{ADMIN};User:CN={ADMIN};User:ANONYMOUS",
    }
