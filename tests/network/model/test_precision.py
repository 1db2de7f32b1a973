"""How the command line names precisions, and how a bundle's folder does."""

import pytest

from mobileclip_deploy.errors import UsageError
from mobileclip_deploy.network.model.precision import (
    PRECISIONS,
    is_precision,
    parse_precisions,
    precision_label,
    precision_of,
)


def test_one_name_is_for_both_towers_when_it_is_asked_for_and_in_a_folders_name() -> None:
    assert parse_precisions("fp16") == {"image": "fp16", "text": "fp16"}
    assert precision_label({"image": "fp16", "text": "fp16"}) == "fp16"
    assert precision_label({"image": "fp16", "text": "fp32"}) == "image-fp16-text-fp32"
    assert precision_label({"text": "fp32"}) == "fp32"


@pytest.mark.parametrize("text", ["image=fp16,text=fp32", " text=fp32 , image=fp16 "])
def test_each_tower_can_have_its_own_in_any_order(text: str) -> None:
    assert parse_precisions(text) == {"image": "fp16", "text": "fp32"}
    assert list(parse_precisions(text)) == ["image", "text"]


def test_an_unknown_precision_is_refused_with_the_known_ones_and_the_likely_one() -> None:
    with pytest.raises(UsageError) as refused:
        parse_precisions("image=fp16,text=fp31")
    assert all(name in str(refused.value) for name in PRECISIONS if name != "mixed")  # which nobody can ask for
    assert "did you mean" in str(refused.value).lower()


@pytest.mark.parametrize(
    "text", ["image=fp16", "image=fp16,sound=fp16", "image=fp16,image=fp32", "image=fp16,text=fp16,image=fp32"]
)
def test_a_tower_left_out_unknown_or_named_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="image and text once each"):
        parse_precisions(text)


@pytest.mark.parametrize("text", ["", ",", "image=,text=fp16", "fp16,fp32"])
def test_what_names_no_precision_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_precisions(text)


def test_where_one_tower_is_wanted_only_its_precision_has_to_be_named() -> None:
    assert parse_precisions("image=w8", ("image",)) == {"image": "w8"}
    assert parse_precisions("image=w8,text=fp16", ("image",)) == {"image": "w8"}
    with pytest.raises(UsageError, match="name image once each, as in image=fp16"):
        parse_precisions("text=fp16", ("image",))


@pytest.mark.parametrize("text", ["w4p-table-w6p", "image=w4p,text=W4P-table-w6p"])
def test_a_text_towers_table_of_words_can_have_its_own(text: str) -> None:
    found = parse_precisions(text)
    assert found == {"image": "w4p", "text": "w4p-table-w6p"}
    assert precision_label(found) == "w4p-table-w6p"
    precision = precision_of(found["text"])
    assert (precision.rest, precision.table, precision.bits, precision.gate) == ("w4p", "w6p", 4, 0.98)
    assert precision_of("w8a8-table-w4").calibrated
    assert (precision_of("w8").rest, precision_of("w8").table) == ("w8", None)


def test_a_table_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"an image tower has no token embedding; give image=w4$"):
        parse_precisions("image=w4-table-w8,text=w8")
    for text in ("w4-table-fp16", "fp16-table-w4", "w4-table-w4p-p50", "w4-table-w8-table-w8", "w4-table-"):
        assert not is_precision(text)
        with pytest.raises(UsageError, match="before `-table-` comes w8, w8a8, w6p, w4p, w4, after it w8, w6p, w4p"):
            parse_precisions(text)


def test_fewer_bits_never_have_a_stricter_gate() -> None:
    finer_first = sorted(PRECISIONS.values(), key=lambda precision: -precision.stored_bits)
    gates = [precision.gate for precision in finer_first if precision.metric == "cosine"]
    assert gates == sorted(gates, reverse=True)
