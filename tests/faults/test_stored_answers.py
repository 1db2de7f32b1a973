"""Faults in what a bundle stores beside its packages: ids padded with the wrong id, embeddings of another order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from faults.conftest import Healthy

from mobileclip_deploy.bundle import Bundle
from mobileclip_deploy.parity.reference import Reference
from mobileclip_deploy.verify.companions import check_golden
from mobileclip_deploy.verify.subject import Golden


def failed(healthy: Healthy, stored: Reference, folder: Path) -> set[str]:
    """The towers for which the stored reference is found wrong."""
    bundle = Bundle(folder, healthy.bundle.manifest)
    stored.save(bundle.golden)
    read = Reference.read(bundle.golden)
    golden = Golden(read, Reference.compute(healthy.model, read.inputs))
    return {check.tower for check in check_golden(healthy.subject(bundle, golden=golden)) if check.status == "failed"}


def test_ids_padded_with_the_end_of_text_id_are_caught(healthy: Healthy, tmp_path: Path) -> None:
    tokenizer = healthy.model.variant.tokenizer
    inputs = healthy.reference.inputs
    padded = np.where(inputs.ids == tokenizer.pad, tokenizer.eot, inputs.ids)
    assert failed(healthy, replace(healthy.reference, inputs=replace(inputs, ids=padded)), tmp_path) == {"text"}


def test_embeddings_of_other_images_are_caught(healthy: Healthy, tmp_path: Path) -> None:
    embeddings = healthy.reference.embeddings | {"image": healthy.reference.of("image")[::-1].copy()}
    assert failed(healthy, replace(healthy.reference, embeddings=embeddings), tmp_path) == {"image"}


def test_an_intact_reference_passes(healthy: Healthy, tmp_path: Path) -> None:
    assert not failed(healthy, healthy.reference, tmp_path)
