"""Chips that a package can be linted for, and their differences by public sources."""

from dataclasses import dataclass

from mobileclip_deploy.errors import UsageError, suggestion


@dataclass(frozen=True)
class Device:
    """A chip.

    Attributes:
        name: as on the command line.
        title: its products, for people.
        max_extent: the largest width, height or contracted dimension, in elements.
        sorts: True if topk and argsort are native.
        int8_activations: True if products of 8-bit activations and weights run faster than float16.
    """

    name: str
    title: str
    max_extent: int
    sorts: bool
    int8_activations: bool


# Extents and sorting: ANEForge, capabilities and op catalog (see sources.py), measured on M1 and M5 and read from
# compiler targets. An iPhone chip has the values of the Mac chip whose Neural Engine is of its generation. Activations:
# Apple's coremltools guide on quantization (A17 Pro, M4).
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("a14", "A14: iPhone 12", 16384, False, False),
        Device("a15", "A15: iPhone 13, 14, SE 3", 16384, True, False),
        Device("a16", "A16: iPhone 14 Pro, 15", 65536, True, False),
        Device("a17", "A17 Pro: iPhone 15 Pro", 65536, True, True),
        Device("a18", "A18: iPhone 16", 65536, True, True),
        Device("a19", "A19: iPhone 17", 65536, True, True),
        Device("m1", "M1", 16384, False, False),
        Device("m2", "M2", 16384, True, False),
        Device("m3", "M3", 16384, True, False),
        Device("m4", "M4", 65536, True, True),
        Device("m5", "M5", 65536, True, True),
    )
}
DEFAULT_DEVICE = "a14"
"""The strictest device."""


def find_device(name: str) -> Device:
    """Returns the device of that name, in any case.

    Raises:
        UsageError: unknown; the text lists the known ones.
    """
    try:
        return DEVICES[name.lower()]
    except KeyError:
        raise UsageError(f"no device {name!r}{suggestion(name, DEVICES)}; known: {', '.join(DEVICES)}") from None
