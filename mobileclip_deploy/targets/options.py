"""Options of targets: a frozen dataclass for each target, whose fields declare their flags."""

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
    """Returns a field of a target's options.

    Args:
        flag: flag of `export`, such as "--opset". Without a value "--joint=also" means also. A field with a boolean
            default is a flag without a value, and giving it inverts the default.
        text: its help.
        default: value if the flag is not given.
        metavar: name of the value in the help.
        names: values that a shell completes; several may be given, separated by commas.
        attaches: suffix of an optional file next to each artifact that the option requests; the attachment has the
            option's name.
    """
    metadata = {"flag": flag, "text": text, "metavar": metavar, "names": names, "attaches": attaches}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TargetOptions:
    """Options of a target that has none; other targets' options derive from it."""

    @property
    def variation(self) -> str | None:
        """Suffix of the target's label after its name. None if there is none."""
        return None

    def variations(self) -> tuple[Self, ...]:
        """Returns the options of each requested bundle: several if one option names several backends."""
        return (self,)

    def varied(self, name: str) -> Self | None:
        """Returns the options of the target labelled `<target>-<name>`. None if the target has no variations.

        Raises:
            UsageError: no variation has that name.
        """
        return None

    def uses(self, option: str) -> bool:
        """Returns whether an option has an effect with the other options as chosen."""
        return True

    def require_layers(self, known: Callable[[], Mapping[TowerName, Collection[str]]]) -> None:
        """Refuses layers that an option names and the network lacks.

        Args:
            known: returns the weights of each tower, by their names in the converted module.

        Raises:
            UsageError: a layer is unknown; the text suggests a similar name.
        """

    @property
    def attachments(self) -> dict[str, str]:
        """Suffixes of the requested attachments, by kind."""
        requested = (each for each in fields(self) if each.metadata["attaches"] and getattr(self, each.name))
        return {each.name: each.metadata["attaches"] for each in requested}

    def recorded(self) -> dict[str, str]:
        """Returns the options that differ from the defaults, as text, for the manifest; booleans are "on" and "off"."""
        chosen = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        return {name: {True: "on", False: "off"}.get(value, str(value)) for name, value in chosen.items()}

    @classmethod
    def restored(cls, recorded: Mapping[str, str]) -> Self:
        """Reads options that `recorded` wrote; names of other targets are ignored."""
        values = {own_field: recorded[own_field.name] for own_field in fields(cls) if own_field.name in recorded}
        return cls(
            **{
                own_field.name: text == "on" if isinstance(own_field.default, bool) else text
                for own_field, text in values.items()
            }
        )
