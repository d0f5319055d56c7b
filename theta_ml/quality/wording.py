"""How numbers are written in sentences."""


def percent(share: float) -> str:
    """A share (0-1) as a person reads it: `41 %`, `0.8 %`."""
    value = share * 100
    return f"{value:.0f} %" if value >= 10 or value == round(value) else f"{value:.2g} %"
