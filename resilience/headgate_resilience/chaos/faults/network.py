"""F6, F7: what the network does to a process, or to all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from headgate_resilience.chaos.faults.fault import NETWORK, S3, Act, fault
from headgate_resilience.chaos.proxy.network import Network
from headgate_resilience.chaos.proxy.weather import Weather
from headgate_resilience.chaos.stage import NotHere, Stage

WORKERS = ("task", "plan")
EAT_S = 8.0
RESET_S = 0.5
BROKEN_S = (5.0, 14.0)
"""Shorter and longer than a session of 6 s."""


def network_of(stage: Stage) -> Network:
    """Return the network; NotHere when the broker cannot be reached over one."""
    if stage.network is None:
        raise NotHere("the broker does not speak in the clear, so no link can be put in front of it")
    return stage.network


def _cut(kinds: tuple[str, ...], *, up: bool, down: bool) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        seconds = dice.uniform(*BROKEN_S)
        with stage.one_of(dice, *kinds) as place:
            weather = network_of(stage).weather[place.name]
            weather.is_cut_up, weather.is_cut_down = up, down
            stage.hold(seconds)
            weather.clear()
            return f"{place.name} for {seconds:.0f} s"

    return act


for _name, _up, _down, _text in (
    ("up", True, False, "hears the brokers, and they do not hear it"),
    ("down", False, True, "is heard by the brokers, and does not hear them"),
    ("both", True, True, "and the brokers are cut off from each other"),
):
    fault("F6", f"gate-{_name}", f"A gate {_text}, for up to 14 s.", needs=(NETWORK,))(
        _cut(("gate",), up=_up, down=_down)
    )
    fault("F6", f"worker-{_name}", f"A worker {_text}, for up to 14 s.", needs=(NETWORK,))(
        _cut(WORKERS, up=_up, down=_down)
    )


@fault("F6", "everybody", "Nobody reaches the brokers for up to 14 s.", needs=(NETWORK,))
def cut_everybody(stage: Stage, dice: random.Random) -> str:
    """Cut every link to Kafka."""
    seconds = dice.uniform(*BROKEN_S)
    with _every_link(stage) as links:
        for weather in links:
            weather.is_cut_up = weather.is_cut_down = True
        stage.hold(seconds)
    return f"{seconds:.0f} s"


@fault(
    "F6",
    "flaky",
    "Every link is slow, and one piece in five hundred resets its connection.",
    needs=(NETWORK,),
)
def flaky_links(stage: Stage, _dice: random.Random) -> str:
    """Delay everything by 20 ms and reset now and then."""
    with _every_link(stage) as links:
        for weather in links:
            weather.delay_s, weather.resets_of_100 = 0.02, 0.2
        stage.hold(EAT_S)
    return f"{len(links)} links for {EAT_S:.0f} s"


@fault(
    "F6",
    "brokerless",
    "Every connection is reset, and who comes back is told of a cluster without brokers.",
    needs=(NETWORK,),
)
def hide_brokers(stage: Stage, _dice: random.Random) -> str:
    """Answer for a while as a broker does that is cut off from the controllers."""
    with _every_link(stage) as links:
        before = sum(weather.spoiled for weather in links)
        for weather in links:
            weather.is_brokerless, weather.resets_of_100 = True, 100.0
        stage.hold(RESET_S)
        for weather in links:
            weather.resets_of_100 = 0.0
        stage.hold(EAT_S)
    return f"{sum(weather.spoiled for weather in links) - before} answers on {len(links)} links"


def _eat(what: str, *kinds: str) -> Act:
    def act(stage: Stage, dice: random.Random) -> str:
        with stage.one_of(dice, *kinds) as place:
            weather = network_of(stage).weather[place.name]
            before = weather.meals
            meals = _eaten(stage, weather, what, before)
            return f"{meals} replies to {place.name}"

    return act


def _eaten(stage: Stage, weather: Weather, what: str, before: int) -> int:
    """Eat for a while, with rests in which what was eaten is tried again; return how many replies."""
    for _ in range(4):
        weather.eaten = frozenset({what})
        stage.until(lambda: weather.meals > before, EAT_S / 4)
        stage.hold(0.3)
        weather.eaten = frozenset()
        stage.hold(0.7)
    return weather.meals - before


for _what, _of in (("produce", "an append"), ("commit", "a commit")):
    for _who, _kinds in (("gate", ("gate",)), ("worker", WORKERS)):
        fault(
            "F7",
            f"{_what}-{_who}",
            f"The broker does {_of} of a {_who}, and the reply is eaten.",
            needs=(NETWORK,),
        )(_eat(_what, *_kinds))


@fault("F7", "put", "The blob store keeps a value, and the reply is eaten.", needs=(NETWORK, S3))
def eat_puts(stage: Stage, _dice: random.Random) -> str:
    """Eat replies to PUT."""
    weather = network_of(stage).weather["blobs"]
    return f"{_eaten(stage, weather, 'put', weather.meals)} replies"


@contextmanager
def _every_link(stage: Stage) -> Iterator[list[Weather]]:
    """Give the weather of every link to Kafka; it is clear again at the end."""
    links = [weather for name, weather in network_of(stage).weather.items() if name != "blobs"]
    yield links
    for weather in links:
        weather.clear()
