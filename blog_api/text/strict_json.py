"""JSON objects without what other programs would read in another way."""

import json
from typing import Any, NoReturn


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError with a message of one line."""
    try:
        values = json.loads(
            text, parse_constant=reject_constant, object_pairs_hook=reject_repeated_keys
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"invalid JSON: {error.msg}, at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        # Python's own message is about its limit of digits.
        is_own = isinstance(error, InvalidValue)
        raise ValueError(str(error) if is_own else "a number is too long") from None
    if not isinstance(values, dict):
        raise ValueError("must be a JSON object, in braces")
    return values


class InvalidValue(ValueError):
    """JSON that is valid, or that Python reads, and that is rejected nevertheless."""


def reject_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Reject a repeated key: `"draft": false` would undo an earlier `"draft": true`."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidValue("a key is repeated")
    return values


def reject_constant(name: str) -> NoReturn:
    """Reject NaN and the infinities, which Python reads but JSON does not have."""
    raise InvalidValue(f"invalid JSON: {name} is not allowed")
