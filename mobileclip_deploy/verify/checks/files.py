"""Files of a bundle that neither its manifest lists nor its target and layout write."""

from pathlib import Path

from mobileclip_deploy.artifacts.bundle import Bundle
from mobileclip_deploy.artifacts.bundle.companions import sorted_files
from mobileclip_deploy.errors import InvalidInput, listed
from mobileclip_deploy.parity import Check
from mobileclip_deploy.targets import targets
from mobileclip_deploy.verify.subject import OpenedSubject, Subject

SHOWN = 5
LIBRARIES = frozenset(
    [
        # transformers, tokenizers, transformers.js, swift-transformers, optimum
        *("adapter_config.json", "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json"),
        *("generation_config.json", "image_processor_config.json", "merges.txt", "ort_config.json"),
        *("preprocessor_config.json", "processor_config.json", "quantization_config.json", "quantize_config.json"),
        *("sentencepiece.bpe.model", "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer.model"),
        *("tokenizer_config.json", "video_preprocessor_config.json", "vocab.json", "vocab.txt"),
        # open_clip, sentence-transformers
        *("config_sentence_transformers.json", "modules.json", "open_clip_config.json", "sentence_bert_config.json"),
        # Core ML's runner here, and apps that show the names of a classifier's answers
        *("labels.json", "labels.txt"),
    ]
)
"""Names that libraries look for in a model's folder."""
WEIGHTS = (
    *(".bin", ".bpte", ".ckpt", ".data", ".dlc", ".dll", ".dylib", ".engine", ".gguf", ".h5", ".index.json"),
    *(".mlmodel", ".mlmodelc", ".npz", ".ort", ".param", ".pb", ".pkl", ".pt", ".ptd", ".pth", ".safetensors", ".so"),
)
"""Suffixes of weights and programs, next to those of artifacts."""


def check_files(subject: OpenedSubject) -> list[Check]:
    """Fails for a file that nothing lists and a library would read, and for a JSON file with a key twice."""
    read, _ = unlisted_files(subject.bundle)
    fault = f"{listed(read, SHOWN)}: not in the manifest, but a library would read it; remove it" if read else None
    try:
        subject.bundle.check_keys()
    except InvalidInput as error:
        fault = fault or str(error)
    return [Check.of_fault("files", "both", fault, "the manifest lists all files that libraries read")]


def unlisted_note(subject: Subject) -> tuple[str, ...]:
    """Returns a sentence on unlisted files that no library reads; empty without any."""
    _, rest = unlisted_files(subject.bundle)
    return (f"Not in the manifest, and not read by any known library: {listed(rest, SHOWN)}.",) if rest else ()


def unlisted_files(bundle: Bundle) -> tuple[list[str], list[str]]:
    """Returns the unlisted files that a library would read, and all others."""
    _, unlisted = sorted_files(bundle)
    read = [name for name in unlisted if _is_read(name)]
    return read, [name for name in unlisted if name not in read]


def _is_read(name: str) -> bool:
    artifacts = {suffix for target in targets().values() for suffix in target.capabilities.formats.suffixes}
    parts = [part.casefold() for part in Path(name).parts]
    if any(part.endswith(suffix) for part in parts for suffix in (*artifacts, *WEIGHTS)):
        return True
    return parts[-1] in LIBRARIES or ".onnx_data" in parts[-1]
