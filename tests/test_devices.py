"""Devices are lent to one training each, whoever asks first."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.devices import Devices, _names


def test_no_device_is_lent_twice_and_all_are_used() -> None:
    devices = Devices(["0", "1", "2"])
    lock, out, most = threading.Lock(), set(), []

    def work(_: int) -> str:
        with devices.lend() as environment:
            mine = environment["CUDA_VISIBLE_DEVICES"]
            with lock:
                assert mine not in out
                out.add(mine)
                most.append(len(out))
            time.sleep(0.01)
            with lock:
                out.remove(mine)
        return mine

    with ThreadPoolExecutor(8) as pool:
        used = list(pool.map(work, range(24)))
    assert set(used) == {"0", "1", "2"}
    assert max(most) == 3
    assert sorted(devices.free) == ["0", "1", "2"]


def test_a_launcher_waits_for_the_whole_machine_and_a_failure_gives_its_device_back() -> None:
    devices = Devices(["0", "1"])
    with pytest.raises(RuntimeError, match="broken"), devices.lend():
        raise RuntimeError("broken")
    with ThreadPoolExecutor(1) as pool:
        with devices.lend():
            whole = pool.submit(lambda: devices.lend(whole=True).__enter__())
            time.sleep(0.05)
            assert not whole.done()
        assert sorted(whole.result(5)["CUDA_VISIBLE_DEVICES"].split(",")) == ["0", "1"]


def test_one_device_is_left_as_the_environment_has_it() -> None:
    with Devices(["cpu"]).lend() as environment:
        assert environment == {}


def test_the_environment_says_which_devices_there_are() -> None:
    assert _names("0,3") == ["0", "3"]
    assert _names("") == []
    assert _names(" GPU-1a2b ,MIG-3") == ["GPU-1a2b", "MIG-3"]
