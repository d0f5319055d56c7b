"""How numbers are written for people: in mails, on pages and in sentences alike."""

MINUS = "−"


def shown(value: float | str | None) -> str:
    """To four digits, with a minus that is one; a missing number by name; text as it is."""
    if value is None:
        return "missing"
    if isinstance(value, str):
        return value
    return (f"{value:,}" if isinstance(value, int) else f"{value:.4g}").replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """With a plus or a minus that is one, unless it is zero to so many decimals."""
    return f"{value:+.{digits}f}".replace("-", MINUS) if round(value, digits) else f"{0:.{digits}f}"
