"""Opening of a bundle with all data that its checks need."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.source import open_source
from mobileclip_deploy.base.files.staging import temporary_folder
from mobileclip_deploy.base.progress import Progress, about, silent
from mobileclip_deploy.errors import InvalidInput
from mobileclip_deploy.evaluation.checkpoints import checkpoint_looks
from mobileclip_deploy.evaluation.dataset_files import accuracy_dataset
from mobileclip_deploy.evaluation.evaluate import measure
from mobileclip_deploy.network.checkpoints.source import Source
from mobileclip_deploy.network.inputs import Inputs, sample_inputs
from mobileclip_deploy.network.model.variants import TOWERS
from mobileclip_deploy.network.samples import read_prompts
from mobileclip_deploy.parity.computing import compute_again, compute_reference
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.pictures.checkpoint_embedder import model_embedder
from mobileclip_deploy.targets import installed_target
from mobileclip_deploy.verify.checks.fit import fitted_again
from mobileclip_deploy.verify.checks.place import require_place
from mobileclip_deploy.verify.request import VerifyRequest
from mobileclip_deploy.verify.subject import Evidence, OpenedSubject, SampledReference

# Images of a dataset in the quick checks. Core AI's runtime takes about 20 s of CPU time for them on nano.
QUICK_IMAGES = 128


@contextlib.contextmanager
def opened_subject(request: VerifyRequest, progress: Progress = silent) -> Iterator[OpenedSubject]:
    """Opens the bundle and the checkpoint, computes the checkpoint's answers, and folds it.

    Raises:
        InvalidInput: the bundle is damaged, another checkpoint was given, or the user's inputs need the checkpoint.
        UsageError: the format is not compiled for the place.
    """
    bundle = Bundle.of(request.bundle)
    gates = request.gates or bundle.manifest.gates
    source = open_source(bundle, request.checkpoint)
    stored = Reference.read(bundle.golden)
    target = installed_target(bundle.manifest.target)
    if request.place is not None:
        require_place(target, request.place)
    inputs = _own_inputs(request, source)
    with temporary_folder() as folder:
        subject = OpenedSubject(
            bundle,
            Evidence(stored),
            gates,
            folder,
            calibration=request.calibration,
            progress=progress,
            thorough=request.thorough,
            place=request.place,
        )
        subject.stored = stored
        if source is not None:
            progress(f"{bundle.path.name}: reference embeddings")
            words = 0 if bundle.manifest.tokenizer is None else bundle.manifest.tokenizer.vocab_size
            if stored.inputs.ids.min(initial=0) < 0 or stored.inputs.ids.max(initial=-1) >= words:
                raise InvalidInput(f"{bundle.golden} is damaged: it has ids outside of the vocabulary of {words}")
            subject.fresh, reference = compute_again(source.model, stored)
            reference = reference if inputs is None else compute_reference(source.model, inputs)
            if request.fit is not None:
                full = open_source(bundle, request.checkpoint, full=True)
                assert full is not None
                subject.again = fitted_again(bundle, full, request.fit, request.captions, request.dataset, progress)
            subject.evidence = _evidence(request, bundle, source, reference, progress)
            subject.source = source.folded()
        with contextlib.closing(subject):
            yield subject


def _own_inputs(request: VerifyRequest, source: Source | None) -> Inputs | None:
    """Reads the user's images and prompts, before anything is computed. None if there are none."""
    if source is None and (request.images or request.prompts or request.dataset or request.fit):
        raise InvalidInput("your own images, prompts, datasets and fits need the source checkpoint (`checkpoint`)")
    if source is None or not (request.images or request.prompts):
        return None
    images = _images(request.images) if request.images else []
    texts = read_prompts(request.prompts) if request.prompts else ()
    return sample_inputs(source.model, images, texts)


def _evidence(
    request: VerifyRequest, bundle: Bundle, source: Source, reference: Reference, progress: Progress
) -> Evidence:
    both = set(bundle.manifest.towers) == set(TOWERS)
    data = accuracy_dataset(source, request.dataset) if both else None
    if data is None:
        return Evidence(reference)
    if not request.thorough:
        sample = data.sample(QUICK_IMAGES)
        measurement = measure(model_embedder(source.model), sample, progress=about("checkpoint", progress))
        return Evidence(reference, sampled=SampledReference(sample, measurement, len(data.images)))
    return Evidence(reference, checkpoint_looks(source.model, data, progress))


def _images(folder: Path) -> list[Path]:
    """Returns all files of a folder, by name; hidden ones are left out. A file of another kind is refused later."""
    if not folder.is_dir():
        raise InvalidInput(f"no folder of images at {folder}")
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise InvalidInput(f"{folder} has no images")
    return files
