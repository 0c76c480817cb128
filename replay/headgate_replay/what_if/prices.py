"""Price tables as people write them: the model, and the loader that `headgate replay what-if` calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from headgate_graphs.documents import read_file, read_yaml, validate
from headgate_graphs.errors import UserError
from headgate_graphs.model import Definition, Name, NanoUsd

MAX_PRICE_USD: Final = 1_000_000
"""For a million tokens; more is a typing error, and up to here a YAML number with 9 decimals is exact."""
MAX_MODELS: Final = 10_000


def _price(nano: int) -> int:
    if nano > MAX_PRICE_USD * 1_000_000_000:
        raise ValueError(f"more than {MAX_PRICE_USD:,} USD for a million tokens")
    return nano


Price = Annotated[NanoUsd, AfterValidator(_price)]
"""Nano-USD for a million tokens, exactly; written in USD with at most 9 decimals, such as 0.15."""
Model = Annotated[str, Field(min_length=1, max_length=200)]
"""A model as runs report it."""


class ModelPrice(Definition):
    """What a model costs, for a million tokens of each kind."""

    input: Price
    """Tokens sent to the model that its provider had not cached."""
    output: Price
    """Tokens that the model wrote."""
    cached: Price | None = None
    """Tokens sent that were served from the provider's cache; none costs as much as `input`."""


class PriceTableMetadata(Definition):
    """Names a price table."""

    name: Name
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    description: str = ""


class PriceTable(Definition):
    """Prices by model; a run is priced by the entry that has exactly the name it reports."""

    api_version: Literal["headgate/v1"] = Field(default="headgate/v1", alias="apiVersion")
    kind: Literal["PriceTable"]
    metadata: PriceTableMetadata
    models: Annotated[dict[Model, ModelPrice], Field(min_length=1, max_length=MAX_MODELS)]

    @property
    def label(self) -> str:
        """Name and version as usage records name a table: name@version."""
        return f"{self.metadata.name}@{self.metadata.version}"


def load_prices(path: Path) -> PriceTable:
    """Return the price table in a YAML file; raises UserError with file:line:column for every fault."""
    text = read_file(path, str(path), UserError)
    return validate(read_yaml(text, str(path), UserError), PriceTable, UserError)
