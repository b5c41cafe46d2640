"""JSON files, as editors and strangers write them."""

import json

import pytest

from ddpm.files import MOST_LEVELS, read_json


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_changes_nothing(tmp_path, encoding):
    value = {"β": [0.1, "x̂₀"], "none": None}
    (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=False), encoding)
    assert read_json(tmp_path / "a.json") == value


def test_so_many_levels_are_read_and_one_more_is_not(tmp_path):
    for levels in (MOST_LEVELS, MOST_LEVELS + 1):
        (tmp_path / f"{levels}.json").write_text("[" * levels + "]" * levels)
    assert len(read_json(tmp_path / f"{MOST_LEVELS}.json")) == 1
    with pytest.raises(ValueError, match="51.json is not a JSON file .* more than 50 levels deep"):
        read_json(tmp_path / f"{MOST_LEVELS + 1}.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", "{}".encode("utf-16"), b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 9000, b"[1] [2]"],
    ids=lambda content: repr(content[:8]),
)
def test_what_is_no_json_is_refused_in_one_sentence_with_the_files_name(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not a JSON file that this program reads \(.*\)\.$") as refusal:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(refusal.value)
