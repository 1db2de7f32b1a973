"""The session option for exact int8 sums is set where the processor needs it, and nowhere else."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mobileclip_deploy.targets.onnx.int8_sums import LARGEST, SIDE, exact_int8, product
from mobileclip_deploy.targets.onnx.runner import open_session

OPTION = "session.x64quantprecision"


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    exact_int8.cache_clear()
    yield
    exact_int8.cache_clear()


def test_the_stored_probe_is_the_product_that_onnx_makes() -> None:
    assert LARGEST.read_bytes() == product(np.full((SIDE, SIDE), 127, np.int8))


def test_the_option_is_absent_where_sums_are_exact_without_it_and_sums_are_exact_either_way() -> None:
    weight = np.full((256, 8), 127, np.int8)
    pixels = np.full((4, 256), 255, np.uint8)
    plain = onnxruntime.InferenceSession(product(weight), providers=["CPUExecutionProvider"])
    exact = bool(np.all(plain.run(None, {"x": pixels})[0] == 255 * 127 * 256))
    session = open_session(product(weight), 1)
    assert np.all(session.run(None, {"x": pixels})[0] == 255 * 127 * 256)
    assert exact_int8() == (() if exact else ((OPTION, "1"),))
    if exact:
        with pytest.raises(RuntimeError, match=OPTION):
            session.get_session_options().get_session_config_entry(OPTION)


def test_a_processor_whose_sums_saturate_gets_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    real = onnxruntime.InferenceSession

    class Saturating:
        """Answers the probe as AVX2 without VNNI: pairs of products are added in 16 bits."""

        def __init__(self, *args: Any, **options: Any) -> None: ...

        def run(self, names: object, feeds: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
            pairs = feeds["x"].shape[1] // 2
            return [np.full((64, 64), pairs * np.iinfo(np.int16).max, np.int32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Saturating)
    assert exact_int8() == ((OPTION, "1"),)
    monkeypatch.setattr(onnxruntime, "InferenceSession", real)
    options = open_session(product(np.ones((4, 4), np.int8)), 1).get_session_options()
    assert options.get_session_config_entry(OPTION) == "1"
