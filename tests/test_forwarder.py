"""What is told of a training while it runs: the rows of its own spool, whatever lay there before."""

from pathlib import Path

from models.spool import Spool
from tasks.training import Forwarder


def test_a_spool_that_takes_another_s_place_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    with Spool(path, "the job before") as spool:
        for step in range(1, 9):
            spool.value(step, "train/loss", 1 / step)
            spool.progress(step, 8, "a longer word than the next job has")
    forwarder = Forwarder("tiny", "pretrain", "key", {}, path)
    forwarder.forward()
    assert forwarder.newest is not None
    assert forwarder.newest["progress"] == 8
    with Spool(path, "this job") as spool:
        for step in range(1, 21):
            spool.value(step, "train/loss", 2.5)
            spool.progress(step, 20, "")
            if step == 5:
                forwarder.forward()
                assert (forwarder.newest["progress"], forwarder.newest["total"]) == (5, 20)
    forwarder.forward()
    assert forwarder.newest["progress"] == 20
    assert forwarder.losses == {"train/loss": 2.5}
    assert forwarder.first is not None
    assert forwarder.first["progress"] == 1, "the pace is that of this training"
