"""What a user may choose of a target: a frozen dataclass for each, whose fields say which flag asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mobileclip_deploy.network.model.variants import TowerName


def option(
    flag: str,
    text: str,
    *,
    default: Any = None,
    metavar: str | None = None,
    names: Collection[str] = (),
    attaches: str | None = None,
) -> Any:
    """A field of a target's options.

    Args:
        flag: of `export`, such as "--multifunction". A field whose default is a truth value is a flag without a value,
            and giving it turns the default over.
        text: its help.
        default: what holds where nothing is given.
        metavar: what the help calls the value.
        names: values that a shell offers; one may be given, or several with commas.
        attaches: suffix of a file beside each artifact that it asks for, an attachment of this name.
    """
    told = {"flag": flag, "text": text, "metavar": metavar, "names": names, "attaches": attaches}
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class TargetOptions:
    """Options of a target that leaves nothing to choose; those of others derive from it."""

    @property
    def variation(self) -> str | None:
        """What the target's label says behind its name; None: nothing."""
        return None

    def variations(self) -> tuple[Self, ...]:
        """Options of the targets that are asked for, one bundle each: several where one names several backends."""
        return (self,)

    def varied(self, name: str) -> Self | None:
        """The options of the target that is labelled `<target>-<name>`; None where targets have no variations.

        Raises:
            UsageError: there is none of that name.
        """
        return None

    def uses(self, option: str) -> bool:
        """Whether the target makes anything of one of its options, as the others were chosen."""
        return True

    def require_layers(self, known: Callable[[], Mapping[TowerName, Collection[str]]]) -> None:
        """Refuse layers that an option names and the network does not have.

        Args:
            known: weights of each tower, by their names in the module that is converted.

        Raises:
            UsageError: the text has a name that is near.
        """

    @property
    def attachments(self) -> dict[str, str]:
        """Kinds of the attachments that are asked for, with their suffixes."""
        asked = (own for own in fields(self) if own.metadata["attaches"] and getattr(self, own.name))
        return {own.name: own.metadata["attaches"] for own in asked}

    def recorded(self) -> dict[str, str]:
        """For the manifest: what differs from the defaults, as text; truth values are "on" and "off"."""
        chosen = {own.name: value for own in fields(self) if (value := getattr(self, own.name)) != own.default}
        return {name: {True: "on", False: "off"}.get(value, str(value)) for name, value in chosen.items()}

    @classmethod
    def restored(cls, recorded: Mapping[str, str]) -> Self:
        """What `recorded` wrote; names that are not of this target are passed over."""
        given = {own: recorded[own.name] for own in fields(cls) if own.name in recorded}
        return cls(**{own.name: text == "on" if isinstance(own.default, bool) else text for own, text in given.items()})
