"""Report on a foreign file: the verdict in one sentence, then each tower's convention and evidence."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from mobileclip_deploy.base.files.names import Name, Prose
from mobileclip_deploy.verify.audit.conventions import Convention

Verdict = Literal["same", "defect", "other weights", "other network", "differs"]
"""same: the checkpoint's model. defect: its weights, and a mistake. other weights: the same architecture. differs: none
of the causes that are known explains the difference."""
Length = Literal["raw", "normalised", "varying"]
WORST: tuple[Verdict, ...] = ("other network", "other weights", "differs", "defect", "same")


class InputConvention(BaseModel, frozen=True):
    """Form in which a file takes pictures or texts, in words (`form`) and as values (`convention`). `also`: other forms
    that give the same embeddings."""

    name: Name
    shape: tuple[int, ...]
    form: Prose
    convention: Convention
    also: tuple[Prose, ...] = ()


class OutputConvention(BaseModel, frozen=True):
    """Output with the embedding. `length`: "raw" as the checkpoint's, "normalised" to 1, or "varying"; the first two
    times `factor`, such as the logit scale."""

    name: Name
    shape: tuple[int, ...]
    length: Length
    factor: float = 1.0


class WeightsFound(BaseModel, frozen=True):
    """Weights of the checkpoint that the file holds, found by their elements: `found` of `total` tensors, in the form
    `form`. `median`: relative distance. `different`: names of tensors that are not the checkpoint's."""

    form: str
    found: int
    total: int
    median: float | None = None
    different: tuple[Name, ...] = ()


class ForeignTower(BaseModel, frozen=True):
    """One tower of a file.

    `distance`: largest distance between a direction of the file and the checkpoint's, over `inputs` pictures or texts;
    `bound`: largest one at this precision; of a defect that int8's rounding would hide both are without that rounding.
    `cause`: identifier of the named cause, `cause_text` in words, `explained`: distance from the checkpoint's network
    with that cause.
    """

    file: Name
    tower: Literal["image", "text"]
    verdict: Verdict
    input: InputConvention
    output: OutputConvention
    precision: str
    weights: WeightsFound
    distance: float
    bound: float
    inputs: int
    cause: str | None = None
    cause_text: Prose | None = None
    explained: float | None = None


class ForeignReport(BaseModel, frozen=True):
    """Verdict on files that other tools wrote. `sentence`: for a person. `unknown`: what a file cannot show."""

    schema_version: Literal[1] = 1
    files: tuple[Name, ...]
    variant: str
    checkpoint: Name
    engine: Name
    verdict: Verdict
    sentence: Prose
    towers: Annotated[tuple[ForeignTower, ...], Field(min_length=1)]
    unknown: tuple[Prose, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """True if each tower is the checkpoint's."""
        return self.verdict == "same"
