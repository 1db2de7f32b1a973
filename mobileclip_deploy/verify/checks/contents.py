"""Check of the contents that a manifest records for an artifact."""

from collections.abc import Iterator, Mapping

from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.parity import Check
from mobileclip_deploy.verify.instruments.versions import this_version, written_by
from mobileclip_deploy.verify.subject import TowerProof

Contents = Mapping[str, Mapping[str, int]]
SHOWN = 3
# Versions since this one count artifacts as the current one does: all counts of 80 towers from 0.3.0 are equal.
COUNTED_ALIKE = 0, 3


def check_contents(tower: TowerProof) -> Iterator[Check]:
    """Checks the contents that the manifest records for an artifact against a count of the file.

    A file may express a conversion differently (constants as operations), and then its counts differ. So the counts of
    a new conversion are accepted too, if there is one. Other versions may count differently: equal counts pass, and
    different counts are reported as not run.
    """
    bundle, claimed = tower.subject.bundle, tower.entry.contents
    try:
        counted = tower.artifact.contents
    except InvalidInput as error:
        yield Check.failed("contents", tower.name, str(error))
        return
    # Later versions may count differently.
    alike = COUNTED_ALIKE <= written_by(bundle) <= this_version()
    if claimed is None and (counted is None or not alike):
        return
    fresh = tower.converted.get(tower.precision)
    if claimed != counted and (fresh is None or tower.subject.target.open(fresh).contents != claimed):
        wrong = "; ".join([*_differing(claimed or {}, counted or {})][:SHOWN])
        written = bundle.manifest.environment.get("mobileclip-deploy", "another version")
        if alike:
            yield Check.failed("contents", tower.name, wrong)
        else:
            yield Check.not_run("contents", tower.name, f"counted by {written}, which may count differently: {wrong}")
        return
    kinds = ", ".join(claimed or {}).replace("_", " ")
    yield Check(step="contents", tower=tower.name, status="passed", detail=f"{kinds} match a new count")


def _differing(claimed: Contents, counted: Contents) -> Iterator[str]:
    for kind in {**counted, **claimed}:
        have, want = claimed.get(kind, {}), counted.get(kind, {})
        for name in {**want, **have}:
            if have.get(name) != want.get(name):
                yield f"{kind} {name} is {have.get(name)} in the manifest, {want.get(name)} in the file"
