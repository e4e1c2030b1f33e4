"""The promotion policy's file: each number is explained, and a mistake is named in one line."""

from pathlib import Path

import pytest
import yaml

from tasks.policy import load_policy

POLICY_FILE = Path(__file__).parents[1] / "mlflow" / "promotion.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"foundation": None}, "foundation: .*got None"),
        ({"typo": 1}, "typo: Extra inputs are not permitted, got 1"),
        ({"waivers": [{"model": "m"}]}, r"waivers\.0\.audit: Field required"),
        ({"waivers": "none"}, "waivers: .*list, got 'none'"),
    ],
)
def test_a_bad_policy_is_named_in_one_line(tmp_path, change, message):
    path = tmp_path / "promotion.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(POLICY_FILE.read_text()) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        load_policy(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_policy_is_named(tmp_path):
    with pytest.raises(ValueError, match="found no such file"):
        load_policy(tmp_path / "none.yaml")
    path = tmp_path / "promotion.yaml"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(ValueError, match="is not YAML"):
        load_policy(path)


def test_every_number_of_the_policy_is_explained():
    lines = POLICY_FILE.read_text().splitlines()
    for number, line in enumerate(lines):
        if any(character.isdigit() for character in line.split("#")[0]):
            above = lines[number - 1].strip()
            assert "#" in line or above.startswith("#"), f"line {number + 1}: {line}"
