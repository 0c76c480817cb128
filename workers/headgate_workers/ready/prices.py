"""What a model call costs, by the table of genai-prices (extra `llm`). Used by `chat` and users' handlers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """What one call costs and by which table."""

    cost_usd: Decimal
    table: str
    """name@version."""


def price_of(
    model: str, *, input_tokens: int, output_tokens: int, cached_tokens: int = 0, base_url: str = ""
) -> Price | None:
    """Return the price of a call; None when neither the endpoint nor the model's name is in the table.

    `input_tokens` includes the cached ones. An endpoint that is not known, such as a proxy, is priced by
    the model's name alone.
    """
    # A kept table of a few hundred kilobytes: loaded by those who call models.
    from genai_prices import Usage, __version__, calc_price

    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=min(cached_tokens, input_tokens),
    )
    for url in (base_url, None) if base_url else (None,):
        try:
            cost = calc_price(usage, model, provider_api_url=url).total_price
        except LookupError:
            continue
        return Price(Decimal(cost), f"genai-prices@{__version__}")
    return None
