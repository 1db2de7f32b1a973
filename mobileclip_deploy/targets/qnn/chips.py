"""Qualcomm's chips with an NPU that computes in float16: their names, and their numbers in Qualcomm's compiler.

Architectures and numbers: ExecuTorch 1.5.1, backends/qualcomm/serialization/qc_schema.py, which Qualcomm maintains.
"""

from dataclasses import dataclass

from mobileclip_deploy.errors import UsageError, suggestion


@dataclass(frozen=True)
class Chip:
    """A chip.

    Attributes:
        architecture: version of its NPU (Hexagon).
        soc: its number in the compiler.
        title: Qualcomm's name for it.
        phones: phones that have it.
    """

    code: str
    architecture: int
    soc: int
    title: str
    phones: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Name of its files: the architecture if it is that architecture's default chip, otherwise its code."""
        return f"v{self.architecture}" if self.code in DEFAULT else self.code

    @property
    def names(self) -> tuple[str, ...]:
        """All accepted names."""
        spelled = self.title.lower().replace(" ", "-")
        return (self.code, spelled, *self.phones, *((self.label,) if self.label != self.code else ()))


DEFAULT = ("sm8550", "sm8650", "sm8750")
"""Default chip of each architecture of the phones of 2023, 2024 and 2025."""
CHIPS = (
    Chip("sm8450", 69, 36, "Snapdragon 8 Gen 1", ("galaxy-s22", "xiaomi-12", "oneplus-10-pro")),
    Chip("sm8475", 69, 42, "Snapdragon 8+ Gen 1", ("galaxy-z-fold4", "galaxy-z-flip4")),
    Chip("sm8550", 73, 43, "Snapdragon 8 Gen 2", ("galaxy-s23", "xiaomi-13", "oneplus-11")),
    Chip("sc8380xp", 73, 60, "Snapdragon X Elite"),
    Chip("sm8650", 75, 57, "Snapdragon 8 Gen 3", ("galaxy-s24-ultra", "xiaomi-14", "oneplus-12")),
    Chip("sm8750", 79, 69, "Snapdragon 8 Elite", ("galaxy-s25", "xiaomi-15", "oneplus-13")),
    Chip("sm8850", 81, 87, "Snapdragon 8 Elite Gen 5"),
)
BY_NAME = {name: chip for chip in CHIPS for name in chip.names}


def chips_of(text: str | None) -> tuple[Chip, ...]:
    """Returns the chips in a text such as `sm8650,galaxy-s23`, without repetition, in the table's order; for None the
    default chips.

    Raises:
        UsageError: a chip is unknown; the text lists the known ones.
    """
    words = list(DEFAULT) if text is None else [word.strip().lower().replace(" ", "-") for word in text.split(",")]
    for word in words:
        if word not in BY_NAME:
            listed = ", ".join(f"{chip.code} ({chip.title})" for chip in CHIPS)
            raise UsageError(
                f"unknown chip {word!r}{suggestion(word, BY_NAME)}; known: {listed}; a phone prints its chip: adb "
                "shell getprop ro.soc.model"
            )
    codes = {BY_NAME[word].code for word in words}
    return tuple(chip for chip in CHIPS if chip.code in codes)
